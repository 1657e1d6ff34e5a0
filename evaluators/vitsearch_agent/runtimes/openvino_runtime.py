"""OpenVINO, for ONNX files and its own pairs. Only this file imports openvino, and only inside functions."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from vitsearch_agent.artifacts import inspect, model_files
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability, ReferenceRuntime, Runtime, Session, refused
from vitsearch_agent.runtimes.inputs import Input, random_feeds
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.measure_protocol import Shapes

_PRECISIONS = {"f32": "f32", "bf16": "bf16", "f16": "f16", "auto": None}
_NAMES = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT8": "int8"}
_ELEMENT_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "boolean": "bool",
}
_DEVICES = ("CPU", "GPU", "NPU")
_HINTS = {"none": None, "latency": "LATENCY", "throughput": "THROUGHPUT"}


class OpenVinoSession(Session):
    def __init__(self, request: Any, sizes: RunShapes, reported_options: Dict[str, Any]) -> None:
        self.batch, self.shapes = sizes
        self._request = request
        self.reported_options = reported_options

    def run(self) -> None:
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise refused(error, "openvino refuses to run the model") from error

    def infer(self, images: Any) -> Any:
        try:
            # The inputs and outputs of a call of `infer` are Python objects, which took .17 ms of a model of .09 ms.
            filled = self._request.get_input_tensor().data
            if (filled.shape, filled.dtype) != (images.shape, images.dtype):
                raise ValueError(f"images of {images.shape} {images.dtype}, expected {filled.shape} {filled.dtype}")
            filled[...] = images
            self._request.infer(share_outputs=True)
            return self._request.get_output_tensor(0).data.copy()
        except (RuntimeError, ValueError, TypeError) as error:
            raise refused(error, "the model does not accept the images") from error

    def executed_graph(self) -> Any:
        """Return the graph that the device executes (an openvino.Model): its kernels with shapes and precisions."""
        return self._request.get_compiled_model().get_runtime_model()

    def close(self) -> None:
        self._request = None


class OpenVinoRuntime(Runtime):
    """Runs models on one of OpenVINO's devices.

    Options: `device` (`CPU`, `GPU`, `NPU`), `inference_precision` (`f32`, `bf16`, `f16`, or `auto`: OpenVINO's
    choice, which is bfloat16 on a CPU that has it), `hint` (`none`, `latency`, `throughput`), which leaves threads and
    OpenVINO's streams to it, and `fused_subgraphs`: `off` for models that OpenVINO 2026.4 computes wrongly on
    CPUs, or cannot compile, when it fuses attention or FFNs. The precision in use is read back and recorded in the
    result. It is an error when it is not the requested one (asked for f16, OpenVINO silently uses bf16 on many CPUs).
    """

    name = "openvino"
    libraries = RUNTIMES["openvino"].libraries
    gives_outputs = True
    options = {
        "device": _DEVICES,
        "inference_precision": tuple(_PRECISIONS),
        "hint": tuple(_HINTS),
        "fused_subgraphs": ("on", "off"),
    }

    def reference(self, options: Mapping[str, Any]) -> Optional[ReferenceRuntime]:
        return ReferenceRuntime(self, self.check_options({})) if options["device"] == "CPU" else None

    def survives_fork(self, options: Mapping[str, Any]) -> bool:
        return str(options.get("device", "CPU")) == "CPU"

    def available(self) -> Availability:
        try:
            import openvino
        except ImportError as error:
            return Availability(False, f"openvino cannot be imported: {error}", None, ())
        core = openvino.Core()
        devices = tuple(name for name in _DEVICES if name in core.available_devices)
        offered = {name for device in devices for name in core.get_property(device, "OPTIMIZATION_CAPABILITIES")}
        precisions = tuple(_NAMES[name] for name in _NAMES if name in offered)
        version = str(openvino.__version__).partition("-")[0]
        return Availability(True, None, version, devices, ("onnx", "openvino"), precisions=precisions)

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> OpenVinoSession:
        (session,) = self.load_streams(path, options, threads, batch, shapes, 1)
        return session

    def load_streams(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes, streams: int
    ) -> Sequence[OpenVinoSession]:
        """One compiled model with a request for each stream."""
        import openvino

        files = model_files(path)
        inspect("openvino" if "model.bin" in files else "onnx", files)
        device, wanted = options["device"], _PRECISIONS[options["inference_precision"]]
        core = openvino.Core()
        try:
            model = core.read_model(path)
            arrays, sizes = random_feeds([_input(port) for port in model.inputs], batch, shapes)
            if any(port.partial_shape.is_dynamic for port in model.inputs):
                model.reshape({port: list(array.shape) for port, array in zip(model.inputs, arrays)})
            compiled = core.compile_model(model, device, properties(options, threads, streams))
        except RuntimeError as error:
            raise refused(error, f"openvino {openvino.__version__} rejects the model") from error
        used = _type_name(compiled.get_property("INFERENCE_PRECISION_HINT"))
        if wanted is not None and used != wanted:
            raise MeasurementFailed(
                "runtime_unavailable", f"openvino computes in {used} on this {device}, not in {wanted}"
            )
        requests = [compiled.create_infer_request() for _ in range(streams)]
        for request in requests:
            for index, array in enumerate(arrays):
                request.set_input_tensor(index, openvino.Tensor(array))
        return [OpenVinoSession(request, sizes, {"inference_precision_used": used}) for request in requests]


def properties(options: Mapping[str, Any], threads: int, streams: int = 1) -> Dict[str, Any]:
    """Return OpenVINO's own properties of a model.

    Args:
        options: Checked ones.
        threads: Those of each run.
        streams: The number of runs in flight.

    Returns:
        The properties by name.
    """
    device, hint = options["device"], _HINTS[options["hint"]]
    values: Dict[str, Any] = {} if hint is None else {"PERFORMANCE_HINT": hint}
    if device == "CPU" and hint is None:
        values = {"INFERENCE_NUM_THREADS": threads * streams, "NUM_STREAMS": str(streams)}
    if device == "CPU" and options["fused_subgraphs"] == "off":
        values["SNIPPETS_MODE"] = "DISABLE"
    wanted = _PRECISIONS[options["inference_precision"]]
    if wanted is not None:
        values["INFERENCE_PRECISION_HINT"] = wanted
    return values


def _input(port: Any) -> Input:
    dims: Optional[List[Any]] = None
    if port.partial_shape.rank.is_static:
        dims = [size.get_length() if size.is_static else None for size in port.partial_shape]
    name = _type_name(port.element_type)
    return Input(str(port.any_name), _ELEMENT_TYPES.get(name, name), dims)


def _type_name(kind: Any) -> str:
    return str(kind.get_type_name())
