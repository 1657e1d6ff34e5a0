"""LiteRT, formerly TensorFlow Lite. Only this file imports its interpreter, and only inside functions."""

import importlib
from typing import Any, Mapping, Optional, Tuple

from vitsearch_agent.artifacts import inspect
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability, ReferenceRuntime, Runtime, Session, refused
from vitsearch_agent.runtimes.inputs import Input, random_feeds
from vitsearch_agent.runtimes.ort import on_the_cpu
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.measure_protocol import Shapes

_PACKAGES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}


class LiteRtSession(Session):
    def __init__(self, interpreter: Any, sizes: RunShapes) -> None:
        self.batch, self.shapes = sizes
        self._interpreter = interpreter

    def run(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise refused(error, "litert refuses to run the model") from error

    def infer(self, images: Any) -> Any:
        try:
            self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], images)
        except (ValueError, RuntimeError) as error:
            raise refused(error, "the model does not accept the images") from error
        self.run()
        return self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])

    def close(self) -> None:
        self._interpreter = None


class LiteRtRuntime(Runtime):
    """Runs TFLite files with `ai-edge-litert`, or with `tflite-runtime` on Python before 3.10.

    Option `delegate`: `xnnpack` (the interpreter's default) or `none` (its reference kernels).
    """

    name = "litert"
    libraries = RUNTIMES["litert"].libraries
    gives_outputs = True
    options = {"delegate": ("xnnpack", "none")}

    def reference(self, options: Mapping[str, Any]) -> Optional[ReferenceRuntime]:
        return on_the_cpu()  # the interpreter reads no ONNX

    def survives_fork(self, options: Mapping[str, Any]) -> bool:
        return True  # both delegates run on the processor

    def available(self) -> Availability:
        try:
            module, version = _interpreter_module()
        except ImportError as error:
            return Availability(False, f"the interpreter cannot be imported: {error}", None, ())
        providers = (module.__name__.partition(".")[0],)
        return Availability(True, None, version, providers, ("tflite",), precisions=("fp32", "int8"))

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> Session:
        module, version = _interpreter_module()
        inspect("tflite", {"model.tflite": path})
        more = {}
        if options["delegate"] == "none":
            more["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = module.Interpreter(model_path=path, num_threads=threads, **more)
            details = interpreter.get_input_details()
            inputs = [
                Input(detail["name"], detail["dtype"].__name__, list(detail["shape_signature"])) for detail in details
            ]
            arrays, sizes = random_feeds([_plain(detail) for detail in inputs], batch, shapes)
            for detail, array in zip(details, arrays):
                if tuple(detail["shape"]) != array.shape:
                    interpreter.resize_tensor_input(detail["index"], array.shape)
            interpreter.allocate_tensors()
            for detail, array in zip(details, arrays):
                interpreter.set_tensor(detail["index"], array)
        except (ValueError, RuntimeError) as error:
            raise refused(error, f"litert {version} rejects the model") from error
        return LiteRtSession(interpreter, sizes)


def _plain(declared: Input) -> Input:
    """Convert numpy's type name and integers to plain ones."""
    return declared._replace(dtype=declared.dtype.rstrip("_"), dims=[int(size) for size in declared.dims or ()])


def _interpreter_module() -> Tuple[Any, str]:
    """Return the interpreter's module and version; ImportError with all reasons when none can be imported."""
    reasons = []
    for name, package in _PACKAGES.items():
        try:
            module = importlib.import_module(name + ".interpreter")
        except ImportError as error:
            reasons.append(str(error))
            continue
        version = getattr(importlib.import_module(name), "__version__", None)
        if version is None:  # imported by name: importlib.metadata exists since Python 3.8
            version = importlib.import_module("importlib.metadata").version(package)
        return module, str(version)
    raise ImportError("; ".join(reasons))
