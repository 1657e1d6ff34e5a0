"""From the exported fp32 file to the precision that a plan deploys, made for onnxruntime."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vitsearch.errors import PlanError

DYNAMIC_OPERATORS = ("MatMul", "Gemm")
"""Convolutions and the rest stay fp32: quantized dynamically they ran 3 to 7 times slower than fp32."""


def quantize(source: Path, target: Path, precision: str) -> None:
    """Write ``target``, a whole ONNX file; :class:`PlanError` for a precision that is not made here."""
    if precision not in PRECISIONS:
        raise PlanError(f"precision {precision!r} is not made for onnxruntime; allowed: {', '.join(PRECISIONS)}")
    PRECISIONS[precision](source, target)


def _fp32(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _int8_dynamic(source: Path, target: Path) -> None:
    """Weights int8 per output channel; activations are quantized at run time, per tensor."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _without_advice():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _without_advice() -> Iterator[None]:
    """onnxruntime tells on the root logger to pre-process first, which changes nothing for these operators."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


PRECISIONS: dict[str, Callable[[Path, Path], None]] = {"fp32": _fp32, "int8_dynamic": _int8_dynamic}
