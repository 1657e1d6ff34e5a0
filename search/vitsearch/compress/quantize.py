"""Files of lower precision from an fp32 ONNX file, and which precision each runtime can take.

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

    from vitsearch.compress.int8_static import Learned

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
"""Precisions that leave the layers in fp32 whose rounding does most damage (:mod:`.sensitivity`)."""
TRAINED = frozenset({"int8_qat"})
"""Precisions that a model is trained on for, after its fine-tune (:mod:`.fake_quant`)."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a maker may need beside the fp32 file; see :func:`quantize`."""

    images: NDArray[np.float32]
    learned: Sequence[Learned]
    left: Sequence[NDArray[np.float32]]


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


def quantize(
    onnx_in: Path,
    onnx_out: Path,
    precision: str,
    images: NDArray[np.float32],
    learned: Sequence[Learned] = (),
    left: Sequence[NDArray[np.float32]] = (),
) -> None:
    """Write ``onnx_in`` (fp32) to ``onnx_out`` at ``precision``; :class:`PlanError` for an unknown one.

    ``images`` (n, channels, height, width), normalised: the precisions of :data:`CALIBRATED` look at them.
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
    from vitsearch.compress.half import halve

    halve(onnx_in, onnx_out)


def _int8_weights(onnx_in: Path, onnx_out: Path, _task: Task) -> None:
    from vitsearch.compress.int8_weights import quantize_weights

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
    from vitsearch.compress.int8_static import quantize_static

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
