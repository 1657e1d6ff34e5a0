"""The precisions that can be made for each runtime, and what each precision needs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PRECISIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"onnxruntime": ("fp32", "fp16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed")}
)
"""Runtime -> the precisions that can be made for it."""
CALIBRATED: Mapping[str, str] = MappingProxyType(
    {
        "int8_ptq": "lowest and highest value",
        "int8_qat": "lowest and highest value, then learned",
        "int8_mixed": "lowest and highest value",
    }
)
"""Precision whose files depend on calibration images -> how ranges are found on them. The text enters keys."""
REFUSED: Mapping[tuple[str, str], str] = MappingProxyType(
    {("onnxruntime", "bf16"): "onnxruntime has no bf16 kernels on CPUs (MatMul, Conv and Softmax are not implemented)"}
)
"""Runtime and precision that it cannot run -> the reason."""
MIXED = frozenset({"int8_mixed"})
"""Precisions that leave the most sensitive layers in fp32 (see :mod:`vitsearch.compress.quantization.sensitivity`)."""
TRAINED = frozenset({"int8_qat"})
"""Precisions that need training after the fine-tuning (see :mod:`vitsearch.compress.quantization.fake_quant`)."""

SAME_GRAPH: Mapping[str, str] = MappingProxyType({"int8_qat": "int8_ptq"})
"""Precision -> the one whose graph it shares; only the weights differ, so both are one measurement."""


def supports(runtime: str, precision: str) -> str | None:
    """Why ``precision`` cannot be made for ``runtime``, in one sentence; ``None`` when it can."""
    made = PRECISIONS.get(runtime)
    if made is None:
        return f"runtime {runtime!r} is not supported; allowed: {', '.join(PRECISIONS)}"
    if why := REFUSED.get((runtime, precision)):
        return f"{precision!r}: {why}"
    if precision not in made:
        return f"{precision!r} is not supported for {runtime}; allowed: {', '.join(made)}"
    return None
