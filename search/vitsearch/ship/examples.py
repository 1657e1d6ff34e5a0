"""How a model is run without vitsearch: a Python example for each runtime, a C++ one for onnxruntime, and the command
line of the runtime's own tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

from vitsearch.models.graph import INPUT, OUTPUT
from vitsearch.ship.described import Described
from vitsearch_evaluators.artifacts import calibration
from vitsearch_evaluators.runtimes.tools import trtexec_flags


@dataclass(frozen=True)
class Example:
    """Of one runtime: the lines that import it and open the model, the expression of the logits of ``images``, and the
    packages that it needs."""

    imports: str
    open: str
    run: str
    packages: tuple[str, ...]


def python_example(model: Described) -> str | None:
    """The content of ``example.py``; None for a runtime without an example."""
    found = _EXAMPLES.get(model.job.runtime)
    if found is None:
        return None
    example = found(model)
    known = {"imports": example.imports, "open": example.open, "run": example.run, "batch": _batch(model)}
    return _template("example.py.in").substitute(known)


def packages(model: Described) -> tuple[str, ...]:
    """The packages that ``example.py`` needs, as lines of a requirements file."""
    found = _EXAMPLES.get(model.job.runtime)
    return () if found is None else ("numpy", "pillow", *found(model).packages)


def cpp_example(model: Described) -> str | None:
    """The content of ``example.cpp``; None for other runtimes than onnxruntime on a CPU."""
    if model.deployment.runtime != "onnxruntime" or model.deployment.provider != "cpu":
        return None
    settings = model.preprocessing
    known = {key: settings[key] for key in ("image_size", "crop_size", "channels", "resolution", "interpolation")}
    known |= _FILTERS[settings["interpolation"]]
    numbers = {key: ", ".join(f"{value!r}f" for value in settings[key]) for key in ("mean", "std")}
    netpbm = "pgm" if settings["channels"] == 1 else "ppm"
    run = {"netpbm": netpbm, "batch": _batch(model), "threads": model.confirmation.protocol.threads}
    return _template("onnxruntime.cpp.in").substitute(known | numbers | run)


_FILTERS = {
    "bilinear": {"reach": "1", "filter": "return std::max(0.0f, 1.0f - distance);"},
    "bicubic": {
        "reach": "2",
        "filter": "if (distance < 1.0f) return (1.5f * distance - 2.5f) * distance * distance + 1.0f;\n"
        "    return distance < 2.0f ? -0.5f * (((distance - 5.0f) * distance + 8.0f) * distance - 4.0f) : 0.0f;",
    },
}
"""The weight of a pixel by its distance in C++, and how far it reaches; the cubics are those of Keys (1981)."""


def tool_command(model: Described) -> tuple[str, ...] | None:
    """The command line of the runtime's own tool for this model, in its folder; None where there is no such tool."""
    threads, options = model.confirmation.protocol.threads, model.job.options
    shape = [_batch(model), model.data["channels"], model.final.plan.resolution, model.final.plan.resolution]
    match model.deployment.runtime:
        case "onnxruntime":
            names = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}
            provider = names.get(str(options["provider"]))
            if provider is None:
                return None
            numbers = ["-x", str(threads), "-y", "1", "-m", "times", "-r", "1000"]
            batch = [] if model.deployment.batch else ["-f", f"batch:{_batch(model)}"]
            return ("onnxruntime_perf_test", "-e", provider, *numbers, *batch, "-I", "-s", "model.onnx")
        case "openvino":
            sizes = f"{INPUT}[{','.join(map(str, shape))}]"
            run = ["-api", "sync", "-hint", "none", "-nstreams", "1", "-nthreads", str(threads), "-t", "10"]
            precision = str(options["inference_precision"])
            device = str(options["device"])
            return (
                "benchmark_app",
                "-m",
                "model.xml",
                "-d",
                device,
                *run,
                "-shape",
                sizes,
                "-infer_precision",
                precision,
            )
        case "litert":
            return ("benchmark_model", "--graph=model.tflite", f"--num_threads={threads}", "--num_runs=200")
        case "tensorrt":
            return ("trtexec", "--onnx=model.onnx", *_trtexec(model, shape))
    return None


def calibration_cache(model: Described) -> str | None:
    """The content of the calibration cache that trtexec reads for this model; None for a model without one."""
    if model.job.runtime != "trtexec" or model.job.options["precision"] != "int8":
        return None
    scales = calibration(str(model.path))
    return None if scales is None else trtexec_flags.calibration_cache(_tensorrt(model), scales)


def _trtexec(model: Described, shape: Sequence[int]) -> list[str]:
    """The flags that build the engine as the device built it, and run it."""
    options = model.job.options
    flags = trtexec_flags.build_flags(
        _tensorrt(model), str(options["precision"]), str(options.get("sparsity", "disable"))
    )
    kept = [flag for flag in flags if flag not in ("--buildOnly", "--skipInference")]
    if calibration_cache(model) is not None:
        kept.append(f"--calib={trtexec_flags.CALIBRATION_CACHE}")
    return kept if model.deployment.batch else [*kept, f"--shapes={INPUT}:{'x'.join(map(str, shape))}"]


def _tensorrt(model: Described) -> trtexec_flags.Version:
    """The version that measured the model."""
    version = tuple(int(part) for part in model.confirmation.runtime_version.split(".")[:3])
    known = (*version, 0, 0)[:3]
    return known[0], known[1], known[2]


def _template(name: str) -> Template:
    return Template((resources.files("vitsearch") / "ship" / "templates" / name).read_text())


def _batch(model: Described) -> int:
    return model.deployment.batch or model.shipped.batch


def _onnxruntime(model: Described) -> Example:
    threads, provider = model.confirmation.protocol.threads, model.job.options["provider"]
    opened = (
        "OPTIONS = onnxruntime.SessionOptions()\n"
        f"OPTIONS.intra_op_num_threads = {threads}\n"
        f'SESSION = onnxruntime.InferenceSession(os.path.join(HERE, "model.onnx"), OPTIONS, providers=["{provider}"])'
    )
    run = f'SESSION.run(["{OUTPUT}"], {{"{INPUT}": images}})[0][0]'
    package = _ONNXRUNTIMES.get(str(provider), "onnxruntime")
    return Example("import onnxruntime", opened, run, (_pinned(package, model, "onnxruntime"),))


def _openvino(model: Described) -> Example:
    options = model.job.options
    properties: dict[str, object] = {"INFERENCE_PRECISION_HINT": str(options["inference_precision"])}
    if options["device"] == "CPU":
        properties |= {"INFERENCE_NUM_THREADS": model.confirmation.protocol.threads, "NUM_STREAMS": "1"}
    if options["device"] == "CPU" and options.get("fused_subgraphs") == "off":
        properties["SNIPPETS_MODE"] = "DISABLE"
    listed = ", ".join(f'"{key}": {_quoted(value)}' for key, value in sorted(properties.items()))
    opened = (
        f"OPTIONS = {{{listed}}}\n"
        f'MODEL = openvino.Core().compile_model(os.path.join(HERE, "model.xml"), "{options["device"]}", OPTIONS)'
    )
    return Example("import openvino", opened, "MODEL([images])[0][0]", (_pinned("openvino", model),))


def _litert(model: Described) -> Example:
    threads = model.confirmation.protocol.threads
    opened = (
        f'MODEL = Interpreter(os.path.join(HERE, "model.tflite"), num_threads={threads})\n'
        f"RUN = MODEL.get_signature_runner()"
    )
    run = f'RUN({INPUT}=images)["{OUTPUT}"][0]'
    imports = "from ai_edge_litert.interpreter import Interpreter"
    is_older = re.match(TFLITE_RUNTIME, model.confirmation.runtime_version) is not None
    package = "ai-edge-litert" if is_older else _pinned("ai-edge-litert", model, "litert")
    return Example(imports, opened, run, (package,))


def _coreml(model: Described) -> Example:
    units = {"all": "ALL", "cpu": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ane": "CPU_AND_NE"}
    unit = units[str(model.job.options["compute_units"])]
    opened = (
        'PACKAGE = os.path.join(HERE, "model.mlpackage")\n'
        f"MODEL = coremltools.models.MLModel(PACKAGE, compute_units=coremltools.ComputeUnit.{unit})"
    )
    return Example(
        "import coremltools", opened, f'MODEL.predict({{"{INPUT}": images}})["{OUTPUT}"][0]', ("coremltools",)
    )


TFLITE_RUNTIME = r"2\.([5-9]|1\d)\."
"""Versions of tflite-runtime, which boards with an old Python have; ai-edge-litert has no such releases."""
_ONNXRUNTIMES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "DmlExecutionProvider": "onnxruntime-directml",
}
"""The package that has a provider, where it is not the plain one."""
_EXAMPLES = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "litert": _litert,
    "benchmark_model": _litert,
    "coreml": _coreml,
}
"""By the runtime of the device's agent. An engine of TensorRT is built by the tool's command line."""


def _pinned(package: str, model: Described, runtime: str | None = None) -> str:
    """The package in the version that measured the model, if its runtime did."""
    version = model.confirmation.runtime_version
    return f"{package}=={version}" if model.job.runtime == (runtime or package) else package


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
