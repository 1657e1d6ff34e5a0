"""An ONNX file with the arithmetic of a Core ML program, whose accuracy in onnxruntime stands for the program's.

It has the program's own rounded weights. They are found in the ONNX file by their values: coremltools merges batch
norms into convolutions, and then its names are not those of any layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from vitsearch.compress.quantization.half import halve
from vitsearch.errors import StageError
from vitsearch.targets.coreml.reduced_weights import RoundedWeights

Floats = NDArray[np.floating[Any]]
CLOSE = 2e-3
"""Allowed difference between weights in fp16 and in fp32, of the largest of a tensor. That of rounding is 5e-4."""


def write(plain: Path, judged: Path, rounded: Iterable[RoundedWeights], is_half: bool) -> None:
    """Write the fp32 file `plain` with the `rounded` weights, and in fp16 if it `is_half`, to `judged`.

    `StageError` `export` when a weight of the program is not in `plain`, or does not fit in fp16.
    """
    model = onnx.load(plain)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    free: dict[str, Floats] = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    for weights in rounded:
        name, values = _found(weights, free)
        del free[name]
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
    onnx.save(model, judged)
    if is_half:
        halve(judged, judged)


def _found(weights: RoundedWeights, free: dict[str, Floats]) -> tuple[str, Floats]:
    """The initializer that has the values of `weights`, and the rounded values in its shape."""
    best, nearest = CLOSE * float(np.abs(weights.before).max()), None
    for name, values in free.items():
        for before, after in _layouts(weights, values):
            off = float(np.abs(values - before.astype(np.float32)).max())
            if off <= best:
                best, nearest = off, (name, after)
    if nearest is None:
        what = f"{weights.name} ({'x'.join(map(str, weights.before.shape))})"
        raise StageError("export", "crash", f"no weights of the ONNX file have the values of Core ML's {what}")
    return nearest


def _layouts(weights: RoundedWeights, values: Floats) -> Iterator[tuple[Floats, Floats]]:
    """The weights before and after in the shape of `values`: as they are, and transposed as in linear layers."""
    if values.size != weights.before.size or values.dtype != np.float32:
        return
    if _squeezed(weights.before) == _squeezed(values):
        yield weights.before.reshape(values.shape), weights.after.reshape(values.shape)
    turned, turned_after = (array.reshape(len(array), -1).T for array in (weights.before, weights.after))
    if _squeezed(turned) == _squeezed(values):
        yield turned.reshape(values.shape), turned_after.reshape(values.shape)


def _squeezed(values: Floats) -> list[int]:
    return [size for size in values.shape if size != 1]
