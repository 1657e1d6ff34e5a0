"""How a model is run without vitsearch: a Python example for each runtime, a C++ one for onnxruntime, and the command
line of the runtime's own tool.

All of them build the graph that was judged and measured: the shapes and options of the agent's runtimes.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from vitsearch.core.image_size import ImageSize
from vitsearch.models.onnx_format import INPUT
from vitsearch.ship.bundled_model import BundledModel
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.segmentation import pictures
from vitsearch_agent import runtimes
from vitsearch_agent.artifacts import calibration
from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli.terminal import say
from vitsearch_agent.runtimes import openvino_runtime, ort, ort_qnn
from vitsearch_agent.runtimes.tools import trtexec_flags

BENCHMARK_APP = "benchmark_app.json"
"""The file of the options that OpenVINO's tool has no flag for."""


_TEMPLATES = {
    "classification": "example.py.in",
    "embedding": "example_embedding.py.in",
    "segmentation": "example_segmentation.py.in",
}
"""The example in Python by the task; any other task gets one that prints the shape of the outputs."""


@dataclass(frozen=True)
class Example:
    """Of one runtime: the lines that import it and open the model, the expression of the outputs for `images`, and the
    packages that it needs."""

    imports: str
    open: str
    run: str
    packages: tuple[str, ...]


def python_example(model: BundledModel) -> str | None:
    """The content of `example.py`; None for a runtime without an example."""
    example = _example(model)
    if example is None:
        return None
    fields = {"imports": example.imports, "open": example.open, "run": example.run, "batch": _batch(model)}
    fields["printable"] = inspect.getsource(printable).rstrip()
    fields["say"] = inspect.getsource(say).rstrip()
    fields["palette"] = inspect.getsource(pictures.palette).rstrip()
    fields["output"] = model.task.output
    return _template(_TEMPLATES.get(model.task.kind, "example_outputs.py.in")).substitute(fields)


def packages(model: BundledModel) -> tuple[str, ...]:
    """The packages that `example.py` needs, as lines of a requirements file."""
    example = _example(model)
    return () if example is None else ("numpy", "pillow", *example.packages)


def _example(model: BundledModel) -> Example | None:
    write = _EXAMPLES.get(model.job.runtime)
    return None if write is None else write(model)


def cpp_example(model: BundledModel) -> str | None:
    """The content of `example.cpp`; None for other runtimes than onnxruntime on a CPU, and for other tasks than
    classification."""
    if model.task != CLASSIFICATION:
        return None
    if model.deployment.runtime != "onnxruntime" or model.deployment.provider != "cpu":
        return None
    settings = model.preprocessing
    fields = {key: settings[key] for key in ("channels", "interpolation")}
    for key in ("image_size", "crop_size", "resolution"):
        size = ImageSize.of(settings[key])
        fields |= {f"{key}_height": size.height, f"{key}_width": size.width}
    fields |= _FILTERS[settings["interpolation"]]
    fields |= {"level": ort.LEVELS[_options(model)["graph_optimization_level"]], "config": _cpp_config()}
    numbers = {key: ", ".join(f"{value!r}f" for value in settings[key]) for key in ("mean", "std")}
    netpbm = "pgm" if settings["channels"] == 1 else "ppm"
    run = {"netpbm": netpbm, "batch": _batch(model), "threads": model.confirmation.protocol.threads}
    return _template("onnxruntime.cpp.in").substitute(fields | numbers | run)


_FILTERS = {
    "bilinear": {"reach": "1", "filter": "return std::max(0.0f, 1.0f - distance);"},
    "bicubic": {
        "reach": "2",
        "filter": "if (distance < 1.0f) return (1.5f * distance - 2.5f) * distance * distance + 1.0f;\n"
        "    return distance < 2.0f ? -0.5f * (((distance - 5.0f) * distance + 8.0f) * distance - 4.0f) : 0.0f;",
    },
}
"""The weight of a pixel by its distance in C++, and how far it reaches; the cubics are those of Keys (1981)."""


def tool_command(model: BundledModel) -> tuple[str, ...] | None:
    """The command line of the runtime's own tool for this model, in its folder; None where there is no such tool."""
    match model.deployment.runtime:
        case "onnxruntime":
            return _onnxruntime_perf_test(model)
        case "openvino":
            return _benchmark_app(model)
        case "litert":
            delegate = model.job.options["delegate"]
            flags = [f"--use_xnnpack={str(delegate == 'xnnpack').lower()}"]
            flags += [f"--use_{delegate}=true"] if delegate in ("gpu", "nnapi") else []
            threads = f"--num_threads={model.confirmation.protocol.threads}"
            return ("benchmark_model", "--graph=model.tflite", threads, *flags, "--num_runs=200")
        case "tensorrt":
            return ("trtexec", "--onnx=model.onnx", *_trtexec(model, _shape(model)))
    return None


def _onnxruntime_perf_test(model: BundledModel) -> tuple[str, ...] | None:
    """It takes an open batch for 1 image; a batch that it is told of would be a constant of the graph, and another
    graph than the one that was measured."""
    options, threads = _options(model), model.confirmation.protocol.threads
    provider = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}.get(str(options["provider"]))
    level = _PERF_TEST_LEVELS[options["graph_optimization_level"]]
    if provider is None or (model.deployment.batch is None and _batch(model) != 1):
        return None
    flags = ["-x", str(threads), "-y", "1", "-o", level, *(["-D"] if threads > 1 else [])]
    return ("onnxruntime_perf_test", "-e", provider, *flags, "-m", "times", "-r", "1000", "-I", "-s", "model.onnx")


def _benchmark_app(model: BundledModel) -> tuple[str, ...]:
    """Without `-ip` it would change the input of a model for three channels to bytes."""
    options = _options(model)
    properties = openvino_runtime.properties(options, model.confirmation.protocol.threads)
    run = ["-shape", f"{INPUT}[{','.join(map(str, _shape(model)))}]", "-ip", "f32", "-api", "sync", "-t", "10"]
    run += ["-hint", options["hint"]]
    for name, flag in _BENCHMARK_APP_FLAGS.items():
        run += [flag, str(properties[name])] if name in properties else []
    run += ["-load_config", BENCHMARK_APP] if benchmark_app_config(model) is not None else []
    return ("benchmark_app", "-m", "model.xml", "-d", options["device"], *run)


def benchmark_app_config(model: BundledModel) -> str | None:
    """The content of `BENCHMARK_APP`; None for a model that needs none."""
    if model.job.runtime != "openvino":
        return None
    options = _options(model)
    properties = openvino_runtime.properties(options, model.confirmation.protocol.threads)
    further = {
        name: value for name, value in properties.items() if name not in (*_BENCHMARK_APP_FLAGS, "PERFORMANCE_HINT")
    }
    return json.dumps({options["device"]: further}) + "\n" if further else None


def calibration_cache(model: BundledModel) -> str | None:
    """The content of the calibration cache that trtexec reads for this model; None for a model without one."""
    if model.job.runtime != "trtexec" or model.job.options["precision"] != "int8":
        return None
    scales = calibration(str(model.path))
    return None if scales is None else trtexec_flags.calibration_cache(_tensorrt(model), scales)


def _trtexec(model: BundledModel, shape: Sequence[int]) -> list[str]:
    """The flags that build the engine as the device built it, and run it."""
    options = model.job.options
    flags = trtexec_flags.build_flags(
        _tensorrt(model), str(options["precision"]), str(options.get("sparsity", "disable"))
    )
    kept = [flag for flag in flags if flag not in ("--buildOnly", "--skipInference")]
    if calibration_cache(model) is not None:
        kept.append(f"--calib={trtexec_flags.CALIBRATION_CACHE}")
    return kept if model.deployment.batch else [*kept, f"--shapes={INPUT}:{'x'.join(map(str, shape))}"]


def _tensorrt(model: BundledModel) -> trtexec_flags.Version:
    """The version that measured the model."""
    version = tuple(int(part) for part in model.confirmation.runtime_version.split(".")[:3])
    padded = (*version, 0, 0)[:3]
    return padded[0], padded[1], padded[2]


def _template(name: str) -> Template:
    return Template((resources.files("vitsearch") / "ship" / "templates" / name).read_text())


def _batch(model: BundledModel) -> int:
    return model.deployment.batch or model.shipped.batch


def _shape(model: BundledModel) -> tuple[int, ...]:
    """The shape of the images of a run."""
    return (_batch(model), model.data["channels"], *model.final.plan.resolution.sides)


def _options(model: BundledModel) -> Mapping[str, Any]:
    """The options of the agent's runtime, all of them."""
    return runtimes.create(model.job.runtime).check_options(model.job.options)


def _onnxruntime(model: BundledModel) -> Example:
    threads, options = model.confirmation.protocol.threads, _options(model)
    provider, level = options["provider"], ort.LEVELS[options["graph_optimization_level"]]
    is_npu = provider == ort_qnn.PROVIDER
    config = "".join(f'OPTIONS.add_session_config_entry("{key}", "{value}")\n' for key, value in _SESSION_CONFIG)
    opened = (
        "OPTIONS = onnxruntime.SessionOptions()\n"
        f"OPTIONS.intra_op_num_threads = {threads}\n"
        "OPTIONS.inter_op_num_threads = 1\n"
        f"OPTIONS.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}\n"
        f"{config}"
        f"{_QNN_DEVICE if is_npu else ''}"
        'SESSION = onnxruntime.InferenceSession(os.path.join(HERE, "model.onnx"), OPTIONS'
        f"{'' if is_npu else f', providers=[{_quoted(provider)}]'})\n"
        f'if SESSION.get_providers()[0] != "{provider}":  # onnxruntime takes another one without an error\n'
        f'    sys.exit("{provider} did not start")'
    )
    run = f'SESSION.run(["{model.task.output}"], {{"{INPUT}": images}})[0][0]'
    package = _pinned(_ONNXRUNTIMES.get(str(provider), "onnxruntime"), model, "onnxruntime")
    if is_npu:
        return Example("import onnxruntime\nimport onnxruntime_qnn", opened, run, (package, "onnxruntime-qnn"))
    return Example("import onnxruntime", opened, run, (package,))


def _cpp_config() -> str:
    return "\n".join(f'    options.AddConfigEntry("{key}", "{value}");' for key, value in _SESSION_CONFIG)


def _openvino(model: BundledModel) -> Example:
    """A model with an open batch gets that of the measurement before it is compiled, as there: the graph of an open
    one takes 1.3 times the CPU time, and in bf16 it gives other logits."""
    options = _options(model)
    properties = openvino_runtime.properties(options, model.confirmation.protocol.threads)
    listed = ", ".join(f'"{key}": {_quoted(value)}' for key, value in sorted(properties.items()))
    shaped = "" if model.deployment.batch else f"MODEL.reshape({list(_shape(model))})\n"
    opened = (
        f"OPTIONS = {{{listed}}}\n"
        "CORE = openvino.Core()\n"
        'MODEL = CORE.read_model(os.path.join(HERE, "model.xml"))\n'
        f"{shaped}"
        f'MODEL = CORE.compile_model(MODEL, "{options["device"]}", OPTIONS)'
    )
    return Example("import openvino", opened, "MODEL([images])[0][0]", (_pinned("openvino", model),))


def _litert(model: BundledModel) -> Example | None:
    """None for a delegate that Python's interpreter does not have."""
    threads, delegate = model.confirmation.protocol.threads, model.job.options["delegate"]
    if delegate not in ("xnnpack", "none"):
        return None
    imports, without = "Interpreter", ""
    if delegate == "none":
        imports = "Interpreter, OpResolverType"
        without = ", experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    opened = (
        f'MODEL = Interpreter(os.path.join(HERE, "model.tflite"), num_threads={threads}{without})\n'
        f"RUN = MODEL.get_signature_runner()"
    )
    run = f'RUN({INPUT}=images)["{model.task.output}"][0]'
    is_older = re.match(TFLITE_RUNTIME, model.confirmation.runtime_version) is not None
    package = "ai-edge-litert" if is_older else _pinned("ai-edge-litert", model, "litert")
    return Example(f"from ai_edge_litert.interpreter import {imports}", opened, run, (package,))


def _executorch(model: BundledModel) -> Example:
    """Without `executorch.runtime`, which takes three seconds to import and has no number of threads."""
    opened = (
        f"_C._unsafe_reset_threadpool({model.confirmation.protocol.threads})\n"
        'PROGRAM = _C._load_program(os.path.join(HERE, "model.pte"))\n'
        'METHOD = PROGRAM.load_method("forward")'
    )
    imports = "import torch\nfrom executorch.extension.pybindings import _C"
    run = "METHOD.call([torch.from_numpy(images)])[0].numpy()[0]"
    return Example(imports, opened, run, (_pinned("executorch", model), "torch"))


def _coreml(model: BundledModel) -> Example:
    units = {"all": "ALL", "cpu": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ane": "CPU_AND_NE"}
    unit = units[str(model.job.options["compute_units"])]
    opened = (
        'PACKAGE = os.path.join(HERE, "model.mlpackage")\n'
        f"MODEL = coremltools.models.MLModel(PACKAGE, compute_units=coremltools.ComputeUnit.{unit})"
    )
    return Example(
        "import coremltools",
        opened,
        f'MODEL.predict({{"{INPUT}": images}})["{model.task.output}"][0]',
        ("coremltools",),
    )


_QNN_DEVICE = f"""\
onnxruntime.register_execution_provider_library("{ort_qnn.PROVIDER}", onnxruntime_qnn.get_library_path())
NPUS = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "{ort_qnn.PROVIDER}"]
OPTIONS.add_provider_for_devices(NPUS[:1], {ort_qnn.BACKEND!r})
"""
_SESSION_CONFIG = tuple(ort.SESSION_CONFIG.items())
_PERF_TEST_LEVELS = {"all": "99", "extended": "2", "basic": "1", "disabled": "0"}
_BENCHMARK_APP_FLAGS = {
    "NUM_STREAMS": "-nstreams",
    "INFERENCE_NUM_THREADS": "-nthreads",
    "INFERENCE_PRECISION_HINT": "-infer_precision",
}
TFLITE_RUNTIME = r"2\.([5-9]|1\d)\."
"""Versions of tflite-runtime, which boards with an old Python have; ai-edge-litert has no such releases."""
_ONNXRUNTIMES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
}
"""The package that has a provider, where it is not the plain one."""
_EXAMPLES: Mapping[str, Callable[[BundledModel], Example | None]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "litert": _litert,
    "benchmark_model": _litert,
    "executorch": _executorch,
    "coreml": _coreml,
}
"""By the runtime of the device's agent. An engine of TensorRT is built by the tool's command line."""


def _pinned(package: str, model: BundledModel, runtime: str | None = None) -> str:
    """The package in the version that measured the model, if its runtime did. The version is what a device says."""
    version = model.confirmation.runtime_version
    is_known = model.job.runtime == (runtime or package) and re.fullmatch(r"[0-9A-Za-z.+!_-]+", version) is not None
    return f"{package}=={version}" if is_known else package


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
