"""Precisions: what each needs, and which runtimes and providers compute in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from vitsearch.core.targets import TARGETS

LINEAR, ALL = "linear", "all"
AUTO = "auto"
"""In a space file: the leaderboard decides."""
QUANTIZED_BITS: Mapping[str, int] = MappingProxyType({"int8_ptq": 8, "w8a16": 16})
"""Precision of files for an NPU, whose weights have 8 bits -> the bits of its activations."""
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


def reads_fused(runtime: str, provider: str, precision: str, version: str | None) -> bool:
    """Whether a file has the fused operators of its runtime: one provider alone reads them, in no old version (None: a
    recent one), and not in each precision. True of a runtime that has none."""
    fused = TARGETS[runtime].fused if runtime in TARGETS else None
    if fused is None:
        return True
    numbers = tuple(int(part) for part in (version or "").split(".")[:2] if part.isdigit())
    is_recent = not numbers or numbers >= fused.since
    return provider == fused.provider and precision not in fused.not_in and is_recent


def graph_precision(runtime: str, precision: str) -> str:
    """The precision whose graph a file shares (see `Target.same_graph`): its own, or another one."""
    features = TARGETS.get(runtime)
    return precision if features is None else features.same_graph.get(precision, precision)


def is_versioned(runtime: str) -> bool:
    """Whether the files of a runtime have another form for each of its versions, and for sparse weights."""
    features = TARGETS.get(runtime)
    return features is not None and features.is_versioned


def lowers_slowly(runtime: str) -> bool:
    """Whether files of `runtime` take so long to make that only unpruned models and trained plans get them: the sampler
    proposes plans in the other runtimes of a space file, where it names any."""
    features = TARGETS.get(runtime)
    return features is not None and features.lowering_cpu_s is not None


def default_provider(runtime: str) -> str:
    """The provider that a plan has when nothing names one."""
    return next(iter(TARGETS[runtime].providers))


def providers_of(runtime: str, named: Collection[str]) -> tuple[str, ...]:
    """Those of the `named` providers that `runtime` has; its default one when none is named."""
    wanted = named or (default_provider(runtime),)
    return tuple(provider for provider in wanted if provider in TARGETS[runtime].providers)


def supports(runtime: str, precision: str) -> str | None:
    """Why `precision` cannot be made for `runtime`, in one sentence; `None` when it can."""
    features = TARGETS.get(runtime)
    if features is None:
        return f"runtime {runtime!r} is not supported; allowed: {', '.join(TARGETS)}"
    if why := features.refused.get(precision):
        return f"{precision!r}: {why}"
    if precision not in features.precisions:
        return f"{precision!r} is not supported for {runtime}; allowed: {', '.join(features.precisions)}"
    return None


def supports_on(runtime: str, provider: str, precision: str) -> str | None:
    """As `supports`, for files that compute on `provider`."""
    if (reason := supports(runtime, precision)) is not None:
        return reason
    if why := TARGETS[runtime].refused_on.get(provider, {}).get(precision):
        allowed = ", ".join(precisions_on(runtime, provider))
        return f"{precision!r} does not run on {provider}: {why}; allowed there: {allowed}"
    return None


def precisions_on(runtime: str, provider: str) -> tuple[str, ...]:
    """The precisions of the files of a runtime that compute on one of its providers."""
    features = TARGETS[runtime]
    return tuple(name for name in features.precisions if name not in features.refused_on.get(provider, {}))


def provider_for(runtime: str, precision: str) -> str:
    """The first provider of a runtime that computes in one of its precisions."""
    return next(name for name in TARGETS[runtime].providers if precision in precisions_on(runtime, name))


def is_npu(runtime: str, provider: str) -> bool:
    """Whether a provider compiles files for one chip (see `Target.npus`)."""
    features = TARGETS.get(runtime)
    return features is not None and provider in features.npus


def supports_provider(runtime: str, provider: str) -> str | None:
    """Why files for `runtime` cannot run on `provider`, in one sentence; `None` when they can, or when the runtime is
    not one of ours."""
    features = TARGETS.get(runtime)
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
    features = TARGETS.get(runtime)
    return () if features is None or provider in features.npus else features.quantized_ops.get(precision, ())


def supports_quantized_ops(runtime: str, provider: str, precision: str, ops: str | None) -> str | None:
    """Why `precision` in `runtime` cannot quantize these layers (None: has no such choice), in one sentence;
    `None` when it can."""
    allowed = quantized_ops_of(runtime, provider, precision)
    if ops is None or runtime not in TARGETS or ops in allowed:
        return None
    if is_npu(runtime, provider):
        return f"files for {provider} have no choice of quantized layers: every operator is, or none"
    if not allowed:
        return f"{precision!r} of {runtime} does not compute in int8, so it has no choice of quantized layers"
    why = f" ({WHY_LINEAR_ONLY[precision]})" if precision in WHY_LINEAR_ONLY else ""
    return f"{precision!r} of {runtime} cannot quantize {ops!r}{why}; allowed: {', '.join(allowed)}"


def takes_threads(runtime: str, provider: str) -> bool:
    """Whether a run of a deployment uses the threads that it is given; true of a runtime that is not one of ours."""
    features = TARGETS.get(runtime)
    return features is None or provider in features.threaded


MOST_BATCH, MOST_THREADS, MOST_STREAMS = 1024, 256, 256
"""Images in a run, threads of a run and runs in flight that a plan may name."""


def opens_batch(runtime: str, provider: str) -> bool:
    """Whether files for a provider may take any number of images; true of a runtime that is not one of ours."""
    features = TARGETS.get(runtime)
    return features is None or (features.open_batch and provider not in features.npus)


def supports_batch(runtime: str, provider: str, batch: int | None) -> str | None:
    """Why files for a provider cannot have such a batch (None: open), in one sentence; `None` when they can."""
    if batch is not None or opens_batch(runtime, provider):
        return None
    files = f"{runtime} on {provider}" if is_npu(runtime, provider) else runtime
    return f"the files of {files} take a fixed number of images, not 'open'; allowed: 1 to {MOST_BATCH}"
