"""How a model for onnxruntime is run without vitsearch: in Python, in C++, and by its own tool."""

from __future__ import annotations

from pathlib import Path
from string import Template

from vitsearch.core.image_size import ImageSize
from vitsearch.export.bundle_example import BundleExample, MeasuredModel, PythonExample, batch, options, pinned, threads
from vitsearch.models.onnx_format import INPUT
from vitsearch.tasks import CLASSIFICATION
from vitsearch_agent.runtimes import ort, ort_qnn

CPP = "example.cpp"
_QNN_DEVICE = f"""\
onnxruntime.register_execution_provider_library("{ort_qnn.PROVIDER}", onnxruntime_qnn.get_library_path())
NPUS = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "{ort_qnn.PROVIDER}"]
OPTIONS.add_provider_for_devices(NPUS[:1], {ort_qnn.BACKEND!r})
"""
_SESSION_CONFIG = tuple(ort.SESSION_CONFIG.items())
_PERF_TEST_LEVELS = {"all": "99", "extended": "2", "basic": "1", "disabled": "0"}
_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
}
"""The package that has a provider, where it is not the plain one."""
_FILTERS = {
    "bilinear": {"reach": "1", "filter": "return std::max(0.0f, 1.0f - distance);"},
    "bicubic": {
        "reach": "2",
        "filter": "if (distance < 1.0f) return (1.5f * distance - 2.5f) * distance * distance + 1.0f;\n"
        "    return distance < 2.0f ? -0.5f * (((distance - 5.0f) * distance + 8.0f) * distance - 4.0f) : 0.0f;",
    },
}
"""The weight of a pixel by its distance in C++, and how far it reaches; the cubics are those of Keys (1981)."""


class OnnxRuntimeExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def python(self, model: MeasuredModel) -> PythonExample:
        chosen = options(model)
        provider, level = chosen["provider"], ort.LEVELS[chosen["graph_optimization_level"]]
        is_npu = provider == ort_qnn.PROVIDER
        config = "".join(f'OPTIONS.add_session_config_entry("{key}", "{value}")\n' for key, value in _SESSION_CONFIG)
        opened = (
            "OPTIONS = onnxruntime.SessionOptions()\n"
            f"OPTIONS.intra_op_num_threads = {threads(model)}\n"
            "OPTIONS.inter_op_num_threads = 1\n"
            f"OPTIONS.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}\n"
            f"{config}"
            f"{_QNN_DEVICE if is_npu else ''}"
            'SESSION = onnxruntime.InferenceSession(os.path.join(HERE, "model.onnx"), OPTIONS'
            + ("" if is_npu else f', providers=["{provider}"]')
            + ")\n"
            f'if SESSION.get_providers()[0] != "{provider}":  # onnxruntime takes another one without an error\n'
            f'    sys.exit("{provider} did not start")'
        )
        run = f'SESSION.run(["{model.task.output}"], {{"{INPUT}": images}})[0][0]'
        package = pinned(_PACKAGES.get(str(provider), "onnxruntime"), model, "onnxruntime")
        if is_npu:
            return PythonExample(
                "import onnxruntime\nimport onnxruntime_qnn", opened, run, (package, "onnxruntime-qnn")
            )
        return PythonExample("import onnxruntime", opened, run, (package,))

    def tool(self, model: MeasuredModel) -> tuple[str, ...] | None:
        """It takes an open batch for 1 image; a batch that it is told of would be a constant of the graph, and another
        graph than the one that was measured."""
        chosen = options(model)
        provider = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}.get(str(chosen["provider"]))
        level = _PERF_TEST_LEVELS[chosen["graph_optimization_level"]]
        if provider is None or (model.deployment.batch is None and batch(model) != 1):
            return None
        flags = ["-x", str(threads(model)), "-y", "1", "-o", level, *(["-D"] if threads(model) > 1 else [])]
        return ("onnxruntime_perf_test", "-e", provider, *flags, "-m", "times", "-r", "1000", "-I", "-s", "model.onnx")

    def files(self, model: MeasuredModel) -> dict[str, bytes]:
        """The example in C++, for classification on a CPU."""
        if not _has_cpp(model):
            return {}
        settings = model.preprocessing
        fields = {key: settings[key] for key in ("channels", "interpolation")}
        for key in ("image_size", "crop_size", "resolution"):
            size = ImageSize.of(settings[key])
            fields |= {f"{key}_height": size.height, f"{key}_width": size.width}
        fields |= _FILTERS[settings["interpolation"]]
        config = "\n".join(f'    options.AddConfigEntry("{key}", "{value}");' for key, value in _SESSION_CONFIG)
        fields |= {"level": ort.LEVELS[options(model)["graph_optimization_level"]], "config": config}
        numbers = {key: ", ".join(f"{value!r}f" for value in settings[key]) for key in ("mean", "std")}
        netpbm = "pgm" if settings["channels"] == 1 else "ppm"
        run = {"netpbm": netpbm, "batch": batch(model), "threads": threads(model)}
        template = Template(Path(__file__).with_name("example.cpp.in").read_text())
        return {CPP: template.substitute(fields | numbers | run).encode()}

    def notes(self, model: MeasuredModel) -> tuple[tuple[str, ...], ...]:
        same = f"`{CPP}` does the same with the C++ interface of onnxruntime."
        return ((same,),) if _has_cpp(model) else ()


def _has_cpp(model: MeasuredModel) -> bool:
    return model.task == CLASSIFICATION and model.deployment.provider == "cpu"
