"""Which precision can be made for each runtime, and what a precision depends on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PRECISIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"onnxruntime": ("fp32", "fp16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed")}
)
"""What can be made for each runtime."""
CALIBRATED: Mapping[str, str] = MappingProxyType(
    {
        "int8_ptq": "lowest and highest value",
        "int8_qat": "lowest and highest value, then learned",
        "int8_mixed": "lowest and highest value",
    }
)
"""Precisions whose files depend on calibration images, and how ranges are found on them; enters keys."""
REFUSED: Mapping[tuple[str, str], str] = MappingProxyType(
    {("onnxruntime", "bf16"): "onnxruntime has no bf16 kernels on CPUs (MatMul, Conv and Softmax are not implemented)"}
)
"""What a runtime could not run if it were made, and why."""
MIXED = frozenset({"int8_mixed"})
"""Precisions that leave the layers in fp32 whose rounding changes the answers most (``sensitivity``)."""
TRAINED = frozenset({"int8_qat"})
"""Precisions that a model is trained for, after its fine-tune (``fake_quant``)."""


def supports(runtime: str, precision: str) -> str | None:
    """``None`` when ``precision`` can be made for ``runtime``, else the reason, in one sentence."""
    made = PRECISIONS.get(runtime)
    if made is None:
        return f"no files are made for runtime {runtime!r}, only for {', '.join(PRECISIONS)}"
    if why := REFUSED.get((runtime, precision)):
        return f"{precision!r}: {why}"
    if precision not in made:
        return f"{precision!r} is not made for {runtime}; it takes {', '.join(made)}"
    return None
