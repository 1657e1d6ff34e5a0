"""The runtimes that files are made for: their precisions and providers, and what each precision needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Runtime:
    """A runtime that plans may name.

    `providers` are what computes, the default first, as a space file and a plan name them -> the name that the
    runtime on the device has for it. `refused` are precisions that it cannot run, `unbuilt` providers that it has and
    nothing here reaches, both with the reason. `open_batch`: its files may take any number of images in a run.
    `threaded`: the providers that compute on as many threads as they are given; others choose themselves.
    `quantized_ops`: a precision that computes in int8 -> the layers that its files may quantize, the default first:
    `linear` layers, or `all` (convolutions too). `npus`: the providers that compile a file for one chip: its batch is
    fixed, and a quantized one has every operator quantized, so there is no choice of layers. `refused_on`: the
    precisions that single providers cannot run, with the reason. `lowering_cpu_s`: the CPU-seconds that making a file
    takes, the least and the most that was measured, where they are too many to make one for each plan that is screened
    (see `lowers_slowly`).
    """

    name: str
    precisions: tuple[str, ...]
    providers: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    open_batch: bool = False
    threaded: frozenset[str] = frozenset({"cpu"})
    quantized_ops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    npus: frozenset[str] = frozenset()
    refused_on: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lowering_cpu_s: tuple[int, int] | None = None


LINEAR, ALL = "linear", "all"
AUTO = "auto"
"""In a space file: the leaderboard decides."""
QNN = "qnn"
"""onnxruntime's provider for the NPUs of Qualcomm."""
QUANTIZED_BITS: Mapping[str, int] = MappingProxyType({"int8_ptq": 8, "w8a16": 16})
"""Precision of files for an NPU, whose weights have 8 bits -> the bits of its activations."""
_NOT_FUSED = "16-bit activations are fused on NPUs alone; elsewhere each operator computes in fp32 between conversions"
_NO_PAIRS = "Qualcomm's NPU reads pairs of QuantizeLinear and DequantizeLinear around every operator, which it lacks"
_LIST = (
    Runtime(
        "onnxruntime",
        ("fp32", "fp16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed", "w8a16"),
        {
            "cpu": "CPUExecutionProvider",
            "cuda": "CUDAExecutionProvider",
            "tensorrt": "TensorrtExecutionProvider",
            "openvino": "OpenVINOExecutionProvider",
            "xnnpack": "XnnpackExecutionProvider",
            QNN: "QNNExecutionProvider",
            "coreml": "CoreMLExecutionProvider",
            "directml": "DmlExecutionProvider",
        },
        {"bf16": "onnxruntime has no bf16 kernels on CPUs (MatMul, Conv and Softmax are not implemented)"},
        open_batch=True,
        threaded=frozenset({"cpu", "xnnpack", "openvino"}),
        quantized_ops={
            "int8_dynamic": (LINEAR,),
            "int8_ptq": (LINEAR, ALL),
            "int8_qat": (LINEAR, ALL),
            "int8_mixed": (LINEAR,),
        },
        npus=frozenset({QNN}),
        refused_on={
            **dict.fromkeys(
                ("cpu", "cuda", "tensorrt", "openvino", "xnnpack", "coreml", "directml"), {"w8a16": _NOT_FUSED}
            ),
            QNN: dict.fromkeys(("int8_dynamic", "int8_qat", "int8_weights", "int8_mixed"), _NO_PAIRS),
        },
    ),
    Runtime(
        "openvino",
        ("fp32", "bf16", "fp16", "int8_ptq", "int8_qat"),
        {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"},
        {"int8_dynamic": "OpenVINO quantizes activations at run time for large language models only"},
        open_batch=True,
        quantized_ops={"int8_ptq": (ALL, LINEAR), "int8_qat": (LINEAR, ALL)},
    ),
    Runtime(
        "litert",
        ("fp32", "int8_dynamic", "int8_ptq", "int8_weights"),
        {"cpu": "xnnpack", "gpu": "gpu", "nnapi": "nnapi"},
        {
            "int8_qat": "LiteRT's converter moves the scale of a LayerNorm into the weights of the next layer, so the "
            "ranges that were learned for its input do not fit; int8_dynamic finds them at run time"
        },
        {"npu": "LiteRT reaches NPUs through its CompiledModel interface alone, and vitsearch runs its Interpreter"},
        quantized_ops={"int8_dynamic": (LINEAR,), "int8_ptq": (ALL, LINEAR)},
    ),
    Runtime(
        "executorch",
        ("fp32", "int8_ptq"),
        {"cpu": "XnnpackBackend"},
        {
            "int8_dynamic": "an EfficientViT whose layers are quantized at run time fails when ExecuTorch 1.5 runs it",
            "int8_qat": "ExecuTorch's quantizer finds its own ranges and does not take those that were learned",
        },
        quantized_ops={"int8_ptq": (ALL, LINEAR)},
        lowering_cpu_s=(8, 110),
    ),
    Runtime(
        "tensorrt",
        ("fp32", "fp16", "int8_ptq", "int8_qat"),
        {"gpu": "gpu"},
        threaded=frozenset(),
        quantized_ops={"int8_ptq": (ALL, LINEAR), "int8_qat": (ALL, LINEAR)},
    ),
    Runtime(
        "coreml",
        ("fp32", "fp16", "int8_weights", "palette4"),
        {"all": "all", "cpu": "cpu", "gpu": "cpu_and_gpu", "ane": "cpu_and_ane"},
        threaded=frozenset(),
    ),
)
RUNTIMES: Mapping[str, Runtime] = MappingProxyType({runtime.name: runtime for runtime in _LIST})
CALIBRATED: Mapping[str, str] = MappingProxyType(
    {
        "int8_ptq": "lowest and highest value",
        "int8_qat": "lowest and highest value, then learned",
        "int8_mixed": "lowest and highest value",
        "w8a16": "lowest and highest value",
    }
)
"""Precision whose files depend on calibration images -> how ranges are found on them. The text enters keys."""
MIXED = frozenset({"int8_mixed"})
"""Precisions that leave the most sensitive layers in fp32 (see `vitsearch.compress.quantization.sensitivity`)."""
TRAINED = frozenset({"int8_qat"})
"""Precisions that need training after the fine-tuning (see `vitsearch.compress.quantization.fake_quant`)."""

SAME_GRAPH: Mapping[tuple[str, str], str] = MappingProxyType(
    {("onnxruntime", "int8_qat"): "int8_ptq", ("tensorrt", "int8_qat"): "int8_ptq"}
)
"""Runtime and precision -> the precision whose graph it shares; only the numbers differ, so both are one
measurement."""
VERSIONED = frozenset({"tensorrt"})
"""Runtimes whose files have another form for each of their versions, and for sparse weights."""


FUSED_SINCE = (1, 17)
"""The oldest onnxruntime in which MultiHeadAttention is used; it came to CPUs in 1.15."""


def reads_fused(provider: str, precision: str, version: str | None) -> bool:
    """Whether a file for onnxruntime has its fused operators: only its provider on CPUs reads them, in no old version
    (None: a recent one), and not in fp16."""
    numbers = tuple(int(part) for part in (version or "").split(".")[:2] if part.isdigit())
    is_recent = not numbers or numbers >= FUSED_SINCE
    return provider == "cpu" and precision != "fp16" and is_recent


def lowers_slowly(runtime: str) -> bool:
    """Whether files of `runtime` take so long to make that only unpruned models and trained plans get them: the sampler
    proposes plans in the other runtimes of a space file, where it names any."""
    features = RUNTIMES.get(runtime)
    return features is not None and features.lowering_cpu_s is not None


def default_provider(runtime: str) -> str:
    """The provider that a plan has when nothing names one."""
    return next(iter(RUNTIMES[runtime].providers))


def providers_of(runtime: str, named: Collection[str]) -> tuple[str, ...]:
    """Those of the `named` providers that `runtime` has; its default one when none is named."""
    wanted = named or (default_provider(runtime),)
    return tuple(provider for provider in wanted if provider in RUNTIMES[runtime].providers)


def supports(runtime: str, precision: str) -> str | None:
    """Why `precision` cannot be made for `runtime`, in one sentence; `None` when it can."""
    features = RUNTIMES.get(runtime)
    if features is None:
        return f"runtime {runtime!r} is not supported; allowed: {', '.join(RUNTIMES)}"
    if why := features.refused.get(precision):
        return f"{precision!r}: {why}"
    if precision not in features.precisions:
        return f"{precision!r} is not supported for {runtime}; allowed: {', '.join(features.precisions)}"
    return None


def supports_on(runtime: str, provider: str, precision: str) -> str | None:
    """As `supports`, for files that compute on `provider`."""
    if (reason := supports(runtime, precision)) is not None:
        return reason
    if why := RUNTIMES[runtime].refused_on.get(provider, {}).get(precision):
        allowed = ", ".join(precisions_on(runtime, provider))
        return f"{precision!r} does not run on {provider}: {why}; allowed there: {allowed}"
    return None


def precisions_on(runtime: str, provider: str) -> tuple[str, ...]:
    """The precisions of the files of a runtime that compute on one of its providers."""
    features = RUNTIMES[runtime]
    return tuple(name for name in features.precisions if name not in features.refused_on.get(provider, {}))


def provider_for(runtime: str, precision: str) -> str:
    """The first provider of a runtime that computes in one of its precisions."""
    return next(name for name in RUNTIMES[runtime].providers if precision in precisions_on(runtime, name))


def is_npu(runtime: str, provider: str) -> bool:
    """Whether a provider compiles files for one chip (see `Runtime.npus`)."""
    features = RUNTIMES.get(runtime)
    return features is not None and provider in features.npus


def supports_provider(runtime: str, provider: str) -> str | None:
    """Why files for `runtime` cannot run on `provider`, in one sentence; `None` when they can, or when the runtime is
    not one of ours."""
    features = RUNTIMES.get(runtime)
    if features is None or provider in features.providers:
        return None
    if why := features.unbuilt.get(provider):
        return f"{provider!r}: {why}; allowed: {', '.join(features.providers)}"
    return f"{runtime} has no provider {provider!r}; allowed: {', '.join(features.providers)}"


WHY_LINEAR_ONLY: Mapping[str, str] = MappingProxyType(
    {
        "int8_dynamic": "convolutions that are quantized at run time are slower than in fp32",
        "int8_mixed": "the sensitivity of linear layers alone is known",
    }
)


def quantized_ops_of(runtime: str, provider: str, precision: str) -> tuple[str, ...]:
    """The layers that files of a precision may quantize, the default first; empty where nothing computes in int8, and
    where everything has to."""
    features = RUNTIMES.get(runtime)
    return () if features is None or provider in features.npus else features.quantized_ops.get(precision, ())


def supports_quantized_ops(runtime: str, provider: str, precision: str, ops: str | None) -> str | None:
    """Why `precision` in `runtime` cannot quantize these layers (None: has no such choice), in one sentence;
    `None` when it can."""
    allowed = quantized_ops_of(runtime, provider, precision)
    if ops is None or runtime not in RUNTIMES or ops in allowed:
        return None
    if is_npu(runtime, provider):
        return f"files for {provider} have no choice of quantized layers: every operator is, or none"
    if not allowed:
        return f"{precision!r} of {runtime} does not compute in int8, so it has no choice of quantized layers"
    why = f" ({WHY_LINEAR_ONLY[precision]})" if precision in WHY_LINEAR_ONLY else ""
    return f"{precision!r} of {runtime} cannot quantize {ops!r}{why}; allowed: {', '.join(allowed)}"


def takes_threads(runtime: str, provider: str) -> bool:
    """Whether a run of a deployment uses the threads that it is given; true of a runtime that is not one of ours."""
    features = RUNTIMES.get(runtime)
    return features is None or provider in features.threaded


MOST_BATCH, MOST_THREADS, MOST_STREAMS = 1024, 256, 256
"""Images in a run, threads of a run and runs in flight that a plan may name."""


def opens_batch(runtime: str, provider: str) -> bool:
    """Whether files for a provider may take any number of images; true of a runtime that is not one of ours."""
    features = RUNTIMES.get(runtime)
    return features is None or (features.open_batch and provider not in features.npus)


def supports_batch(runtime: str, provider: str, batch: int | None) -> str | None:
    """Why files for a provider cannot have such a batch (None: open), in one sentence; `None` when they can."""
    if batch is not None or opens_batch(runtime, provider):
        return None
    files = f"{runtime} on {provider}" if is_npu(runtime, provider) else runtime
    return f"the files of {files} take a fixed number of images, not 'open'; allowed: 1 to {MOST_BATCH}"
