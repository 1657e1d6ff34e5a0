"""ONNX Runtime. Only this file and `ort_qnn` import onnxruntime, and only inside functions."""

import importlib.util
from types import MappingProxyType
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from vitsearch_agent.artifacts import declared_inputs, inspect
from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes import ort_qnn
from vitsearch_agent.runtimes.base import Availability, ReferenceRuntime, Runtime, Session, refused
from vitsearch_agent.runtimes.inputs import Feeds, Input, random_feeds
from vitsearch_agent.runtimes.ort_limits import find_limits
from vitsearch_agent.wire.measure_protocol import Shapes

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
"""Option `graph_optimization_level` -> onnxruntime's name."""
SESSION_CONFIG = {"session.intra_op.allow_spinning": "0"}
"""Spinning threads would use CPU time and energy without computing anything."""
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_read_optimizers = json_reader.sequence(json_reader.text, 64)


class OrtSession(Session):
    def __init__(
        self,
        session: Any,
        names: Sequence[str],
        feeds: Feeds,
        reported_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.batch, self.shapes = feeds.sizes
        self.reported_options = reported_options
        self._session = session
        self._feeds = dict(zip(names, feeds.arrays))

    def run(self) -> None:
        try:
            self._session.run(None, self._feeds)
        except Exception as error:  # its exceptions have no other common class
            raise refused(error, "onnxruntime refuses to run the model") from error

    def infer(self, images: Any) -> Any:
        if len(self._feeds) != 1:
            raise MeasurementFailed(
                "incompatible_artifact", f"the model has {len(self._feeds)} inputs, expected one for images"
            )
        try:
            return self._session.run(None, dict.fromkeys(self._feeds, images))[0]
        except Exception as error:
            raise refused(error, "the model does not accept the images") from error

    def close(self) -> None:
        self._session = None


class OrtRuntime(Runtime):
    """Runs ONNX files. Options: `provider`, `graph_optimization_level`, `disabled_optimizers` (a list of names)."""

    name = "onnxruntime"
    libraries = RUNTIMES["onnxruntime"].libraries
    gives_outputs = True
    options = {
        "provider": (
            "CPUExecutionProvider",
            "CUDAExecutionProvider",
            "TensorrtExecutionProvider",
            "OpenVINOExecutionProvider",
            "XnnpackExecutionProvider",
            "ACLExecutionProvider",
            "QNNExecutionProvider",
            "CoreMLExecutionProvider",
            "DmlExecutionProvider",
        ),
        "graph_optimization_level": tuple(LEVELS),
    }

    def check_options(self, options: Mapping[str, Any]) -> Dict[str, Any]:
        plain = dict(options)
        disabled = plain.pop("disabled_optimizers", [])
        names = _read_optimizers(disabled, "options.disabled_optimizers")
        return dict(super().check_options(plain), disabled_optimizers=sorted(set(names)))

    def reference(self, options: Mapping[str, Any]) -> Optional[ReferenceRuntime]:
        return ReferenceRuntime(self, self.check_options({})) if options["provider"] == "CPUExecutionProvider" else None

    def survives_fork(self, options: Mapping[str, Any]) -> bool:
        return str(options.get("provider", "CPUExecutionProvider")) == "CPUExecutionProvider"

    def emulates(self, options: Mapping[str, Any]) -> bool:
        return options["provider"] == ort_qnn.PROVIDER and ort_qnn.is_emulated()

    def uses_cuda(self, options: Mapping[str, Any]) -> bool:
        return options["provider"] in ("CUDAExecutionProvider", "TensorrtExecutionProvider")

    def reserves_addresses(self, options: Mapping[str, Any]) -> bool:
        return self.uses_cuda(options)

    def available(self) -> Availability:
        try:
            import onnxruntime
        except ImportError as error:
            return Availability(False, f"onnxruntime cannot be imported: {error}", None, ())
        return Availability(True, None, str(onnxruntime.__version__), _providers())

    def with_limits(self, state: Availability) -> Availability:
        return state._replace(**find_limits(_loads)._asdict())

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> Session:
        provider = options["provider"]
        if provider not in _providers():
            raise MeasurementFailed(
                "runtime_unavailable", f"this onnxruntime has no {provider}; it has {', '.join(_providers())}"
            )
        inspect("onnx", {"model.onnx": path})
        session = self._open(path, options, threads)
        if session.get_providers()[0] != provider:
            # onnxruntime falls back without an error, and the result would be that of another provider.
            raise MeasurementFailed(
                "runtime_unavailable",
                f"{provider} did not start; onnxruntime fell back to {session.get_providers()[0]}",
            )
        left = ort_qnn.left_on_cpu(session) if provider == ort_qnn.PROVIDER else {}
        inputs = [_input(argument, path) for argument in session.get_inputs()]
        return OrtSession(session, [argument.name for argument in inputs], random_feeds(inputs, batch, shapes), left)

    def load_streams(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes, streams: int
    ) -> Sequence[Session]:
        """One session, whose runs each compute in the thread that calls. With more threads each stream has its own:
        the runs of one session share its threads."""
        if threads > 1:
            return super().load_streams(path, options, threads, batch, shapes, streams)
        return [self.load(path, options, threads, batch, shapes)] * streams

    def _open(self, path: str, options: Mapping[str, Any], threads: int) -> Any:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        for key, value in SESSION_CONFIG.items():
            settings.add_session_config_entry(key, value)
        level = LEVELS[options["graph_optimization_level"]]
        settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        providers = [options["provider"]]
        if options["provider"] == ort_qnn.PROVIDER:
            ort_qnn.add_provider(settings)
            providers = []  # those of the settings
        try:
            return onnxruntime.InferenceSession(
                path,
                settings,
                providers=providers,
                disabled_optimizers=options["disabled_optimizers"],
            )
        except Exception as error:
            raise refused(error, f"onnxruntime {onnxruntime.__version__} rejects the model") from error


def _providers() -> Tuple[str, ...]:
    """Return what can compute here; a provider that is registered from another package comes last."""
    import onnxruntime

    own = [name for name in onnxruntime.get_available_providers() if name != ort_qnn.PROVIDER]
    return (*own, ort_qnn.PROVIDER) if ort_qnn.is_installed(onnxruntime) else tuple(own)


def on_the_cpu() -> Optional[ReferenceRuntime]:
    """Return onnxruntime on the CPU, for the reference models beside a runtime that reads no ONNX.

    Returns:
        The runtime with its default options; None where it is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    runtime = OrtRuntime()
    return ReferenceRuntime(runtime, runtime.check_options({}))


def _input(argument: Any, path: str) -> Input:
    dims = argument.shape
    if not dims:  # onnxruntime says the same of a scalar and of an input whose dimensions the file does not declare
        dims = next(declared.dims for declared in declared_inputs("onnx", path) if declared.name == argument.name)
    return Input(argument.name, _DTYPES.get(argument.type, argument.type), dims)


def _loads(content: bytes) -> bool:
    """Return whether the CPU provider loads a model; its messages about a rejected model are suppressed."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - its exceptions have no other common class
        return False
    return True
