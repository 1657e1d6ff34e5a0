"""Files of lower precision from an fp32 ONNX file.

Each way of quantizing targets a runtime: what is fast on one is slow on another. Each imports its own part of
onnxruntime, so that plain fp32 files need none of them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vitsearch.core.precisions import QUANTIZED_BITS
from vitsearch.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitsearch.compress.quantization.int8_static import Learned
    from vitsearch.compress.quantization.layers import Coverage


@dataclass(frozen=True, eq=False)
class QuantizationTask:
    """Further inputs of a maker; see `quantize`."""

    images: NDArray[np.float32]
    learned: Sequence[Learned]
    covered: Coverage | None


def quantize(
    onnx_in: Path,
    onnx_out: Path,
    precision: str,
    images: NDArray[np.float32],
    learned: Sequence[Learned] = (),
    covered: Coverage | None = None,
) -> None:
    """Write `onnx_in` (fp32) to `onnx_out` at `precision`; `PlanError` for an unknown one.

    `images` (n, channels, height, width), normalised, are for the precisions of
    `vitsearch.core.precisions.CALIBRATED`. `learned` are the ranges of a model that was trained for int8;
    without them `int8_qat` gives the file from which such a training starts, with the same graph and cost.
    `covered` are the layers of static int8 (None: all linear ones).
    """
    if precision not in _MAKERS:
        raise PlanError(f"unknown precision {precision!r}; known: {', '.join(_MAKERS)}")
    _MAKERS[precision](onnx_in, onnx_out, QuantizationTask(images, learned, covered))


def quantize_for_npu(onnx_in: Path, onnx_out: Path, precision: str, images: NDArray[np.float32]) -> None:
    """As `quantize`, for an NPU (`vitsearch.core.precisions.Runtime.npus`): what is quantized has every operator
    quantized. The batch of `onnx_in` is fixed."""
    bits = QUANTIZED_BITS.get(precision)
    if bits is None:
        quantize(onnx_in, onnx_out, precision, images)
        return
    from vitsearch.compress.quantization.every_operator import quantize_every_operator

    with _quiet_root_logger():
        quantize_every_operator(onnx_in, onnx_out, images, bits)


def _fp32(onnx_in: Path, onnx_out: Path, _task: QuantizationTask) -> None:
    shutil.copyfile(onnx_in, onnx_out)


def _fp16(onnx_in: Path, onnx_out: Path, _task: QuantizationTask) -> None:
    from vitsearch.compress.quantization.half import halve

    halve(onnx_in, onnx_out)


def _int8_weights(onnx_in: Path, onnx_out: Path, _task: QuantizationTask) -> None:
    from vitsearch.compress.quantization.int8_weights import quantize_weights

    quantize_weights(onnx_in, onnx_out)


def _int8_dynamic(onnx_in: Path, onnx_out: Path, _task: QuantizationTask) -> None:
    """int8 weights of MatMul and Gemm, one scale per output channel; activations are quantized at run time.

    Convolutions stay fp32 (quantized dynamically they are slower), and so do products of two activations in attention.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet_root_logger():
        quantize_dynamic(
            str(onnx_in),
            str(onnx_out),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )


def _int8_static(onnx_in: Path, onnx_out: Path, task: QuantizationTask) -> None:
    from vitsearch.compress.quantization.int8_static import quantize_static
    from vitsearch.compress.quantization.layers import LINEAR_LAYERS

    quantize_static(onnx_in, onnx_out, task.images, task.learned, task.covered or LINEAR_LAYERS)


_MAKERS: Mapping[str, Callable[[Path, Path, QuantizationTask], None]] = MappingProxyType(
    {
        "fp32": _fp32,
        "fp16": _fp16,
        "int8_dynamic": _int8_dynamic,
        "int8_ptq": _int8_static,
        "int8_qat": _int8_static,
        "int8_weights": _int8_weights,
        "int8_mixed": _int8_static,
    }
)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Suppress onnxruntime's advice: it goes to the root logger, which its first message would configure."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_not_from_quantizer)
    try:
        yield
    finally:
        root.removeFilter(_not_from_quantizer)
        root.removeHandler(handler)


def _not_from_quantizer(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname or record.levelno >= logging.ERROR
