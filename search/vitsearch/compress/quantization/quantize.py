"""Files of lower precision from an fp32 ONNX file.

Quantization is made for a runtime, not once for all: what is fast on one is slow on another.
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

from vitsearch.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitsearch.compress.quantization.int8_static import Learned


@dataclass(frozen=True, eq=False)
class Task:
    """What a maker may need beside the fp32 file; see :func:`quantize`."""

    images: NDArray[np.float32]
    learned: Sequence[Learned]
    left: Sequence[NDArray[np.float32]]


def quantize(
    onnx_in: Path,
    onnx_out: Path,
    precision: str,
    images: NDArray[np.float32],
    learned: Sequence[Learned] = (),
    left: Sequence[NDArray[np.float32]] = (),
) -> None:
    """Write ``onnx_in`` (fp32) to ``onnx_out`` at ``precision``; :class:`PlanError` for an unknown one.

    ``images`` (n, channels, height, width), normalised: the precisions of
    :data:`vitsearch.core.precisions.CALIBRATED` look at them.
    ``learned`` are the ranges of a model that was trained for int8; without them ``int8_qat`` is the file
    that such a model starts from, of the same graph and cost. ``left`` are weights (inputs, outputs) of
    layers that ``int8_mixed`` leaves in fp32.
    """
    if precision not in _MAKERS:
        raise PlanError(f"precision {precision!r} cannot be made; known: {', '.join(_MAKERS)}")
    _MAKERS[precision](onnx_in, onnx_out, Task(images, learned, left))


def _fp32(onnx_in: Path, onnx_out: Path, _task: Task) -> None:
    shutil.copyfile(onnx_in, onnx_out)


def _fp16(onnx_in: Path, onnx_out: Path, _task: Task) -> None:
    from vitsearch.compress.quantization.half import halve

    halve(onnx_in, onnx_out)


def _int8_weights(onnx_in: Path, onnx_out: Path, _task: Task) -> None:
    from vitsearch.compress.quantization.int8_weights import quantize_weights

    quantize_weights(onnx_in, onnx_out)


def _int8_dynamic(onnx_in: Path, onnx_out: Path, _task: Task) -> None:
    """Weights of MatMul and Gemm as int8, one scale per output channel; activations are quantized as
    they come. Convolutions stay fp32 (quantized dynamically they are slower), and so do the products
    of two activations in attention."""
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


def _int8_static(onnx_in: Path, onnx_out: Path, task: Task) -> None:
    from vitsearch.compress.quantization.int8_static import quantize_static

    quantize_static(onnx_in, onnx_out, task.images, task.learned, task.left)


_MAKERS: Mapping[str, Callable[[Path, Path, Task], None]] = MappingProxyType(
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
    """onnxruntime advises through the root logger, which, without a handler, would be set up by that."""
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
