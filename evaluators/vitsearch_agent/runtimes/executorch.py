"""ExecuTorch, for programs (.pte) with XNNPACK's delegate. Only this file imports executorch and torch, and only inside
functions: its Python runtime takes and gives tensors of torch."""

import importlib
from typing import Any, Mapping, Optional

from vitsearch_agent.artifacts import executorch_file, inspect
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability, ReferenceRuntime, Runtime, Session, refused
from vitsearch_agent.runtimes.inputs import Feeds, Input, random_feeds
from vitsearch_agent.runtimes.ort import on_the_cpu
from vitsearch_agent.wire.measure_protocol import Shapes

METHOD = "forward"
_DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}
"""Number of torch's type -> numpy's name."""


class ExecuTorchSession(Session):
    def __init__(self, method: Any, feeds: Feeds, calls: Mapping[str, int]) -> None:
        torch = importlib.import_module("torch")
        self.batch, self.shapes = feeds.sizes
        self.reported_options = calls
        self._method = method
        self._arrays = feeds.arrays
        self._tensors = [torch.from_numpy(array) for array in feeds.arrays]  # of the same memory

    def run(self) -> None:
        try:
            # Set before each run: a program may keep its inputs where later values are written.
            self._method.set_inputs(self._tensors)
            self._method.execute()
        except (RuntimeError, ValueError, TypeError) as error:
            raise refused(error, "executorch refuses to run the model") from error

    def infer(self, images: Any) -> Any:
        filled = self._arrays[0]
        if (images.shape, images.dtype) != (filled.shape, filled.dtype):
            given, wanted = (f"{array.shape} {array.dtype}" for array in (images, filled))
            message = f"the model does not accept the images: they are {given}, expected {wanted}"
            raise MeasurementFailed("incompatible_artifact", message)
        filled[...] = images
        self.run()
        return self._method.get_outputs(True)[0].numpy()

    def close(self) -> None:
        self._method = None


class ExecuTorchRuntime(Runtime):
    """Runs the method `forward` of programs on the CPU, with the kernels of its wheel and XNNPACK's delegate.

    The result records how many calls of delegates and of other kernels a run makes.
    """

    name = "executorch"
    libraries = RUNTIMES["executorch"].libraries
    gives_outputs = True

    def reference(self, options: Mapping[str, Any]) -> Optional[ReferenceRuntime]:
        return on_the_cpu()  # ExecuTorch reads no ONNX

    def survives_fork(self, options: Mapping[str, Any]) -> bool:
        return True  # its pool of threads is made when the first model is loaded

    def available(self) -> Availability:
        try:
            library = _library()
            version = importlib.import_module("importlib.metadata").version("executorch")
        except ImportError as error:
            return Availability(False, f"executorch cannot be imported: {error}", None, ())
        delegates = tuple(sorted(library._get_registered_backend_names()))
        return Availability(True, None, str(version), delegates, ("executorch",), precisions=("fp32", "int8"))

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> ExecuTorchSession:
        inspect("executorch", {"model.pte": path})
        library = _library()
        library._unsafe_reset_threadpool(threads)  # its own has a thread for each core
        try:
            program = library._load_program(path, program_verification=library.Verification.InternalConsistency)
            method = program.load_method(METHOD)
            meta = program.method_meta(METHOD)
            tensors = [meta.input_tensor_meta(index) for index in range(meta.num_inputs())]
        except (RuntimeError, ValueError) as error:
            raise refused(error, "executorch rejects the model") from error
        inputs = [
            Input(f"input_{index}", _DTYPES.get(tensor.dtype(), f"number {tensor.dtype()}"), list(tensor.sizes()))
            for index, tensor in enumerate(tensors)
        ]
        return ExecuTorchSession(method, random_feeds(inputs, batch, shapes), _calls(path))


def _calls(path: str) -> Mapping[str, int]:
    """What a run of a program calls."""
    with open(path, "rb") as stream:
        stream.seek(0, 2)
        program = executorch_file.program(stream, stream.tell())
    return {"delegate_calls": program.delegate_calls, "kernel_calls": len(program.kernels)}


def _library() -> Any:
    """The library's bindings; ImportError where it is not installed. They need torch, and not its compiler, which
    `executorch.runtime` imports in three seconds."""
    importlib.import_module("torch")
    return importlib.import_module("executorch.extension.pybindings._C")
