"""The two reference models (`runtimes.reference_models`) as TFLite files, for runtimes that read no ONNX.

They have the same sizes, weights and number of multiply-adds: 24 products of a 32 x 416 matrix, and 24 pairs of a
depthwise and a 1 x 1 convolution of 32 maps of 14 x 14. A TFLite file holds its weights, so the first has 17 MB: it is
written where it is needed.
"""

import os
import struct
from typing import Callable, List, Tuple

from vitsearch_agent.base.tflite_writer import CONVOLUTION, DEPTHWISE, PRODUCT, Operator, Tensor, model

_ROWS, _WIDTH, _PRODUCTS = 32, 416, 24
_CHANNELS, _PIXELS, _CONVOLUTIONS = 32, 14, 24


def products() -> bytes:
    """Return the file of the model of large products."""
    tensors = [Tensor("image", (1, _ROWS, _WIDTH)), _filled("bias", 0.0, _WIDTH)]
    operators: List[Operator] = []
    value = 0
    for index in range(_PRODUCTS):
        tensors.append(_filled(f"weight{index}", (1 + index / 1024) / _WIDTH, _WIDTH, _WIDTH))
        tensors.append(Tensor(f"value{index}", (_ROWS, _WIDTH)))
        operators.append(Operator(PRODUCT, (value, len(tensors) - 2, 1), len(tensors) - 1))
        value = len(tensors) - 1
    return model(tensors, operators)


def convolutions() -> bytes:
    """Return the file of the model of small convolutions."""
    maps = (1, _PIXELS, _PIXELS, _CHANNELS)
    tensors = [Tensor("image", maps), _filled("bias", 0.0, _CHANNELS), _filled("depth", 1 / 9, 1, 3, 3, _CHANNELS)]
    operators: List[Operator] = []
    value = 0
    for index in range(_CONVOLUTIONS):
        tensors.append(Tensor(f"spread{index}", maps))
        tensors.append(_filled(f"point{index}", (1 + index / 1024) / _CHANNELS, _CHANNELS, 1, 1, _CHANNELS))
        tensors.append(Tensor(f"value{index}", maps))
        spread, point, mixed = range(len(tensors) - 3, len(tensors))
        operators.append(Operator(DEPTHWISE, (value, 2, 1), spread))
        operators.append(Operator(CONVOLUTION, (spread, point, 1), mixed))
        value = mixed
    return model(tensors, operators)


_MODELS: Tuple[Tuple[str, Callable[[], bytes]], ...] = (("products", products), ("convolutions", convolutions))


def write(folder: str) -> Tuple[str, ...]:
    """Write both files into a folder and return their paths, products first."""
    paths = []
    for name, content in _MODELS:
        paths.append(os.path.join(folder, name + ".tflite"))
        with open(paths[-1], "wb") as stream:
            stream.write(content())
    return tuple(paths)


def _filled(name: str, value: float, *shape: int) -> Tensor:
    size = 1
    for length in shape:
        size *= length
    return Tensor(name, shape, struct.pack("<f", value) * size)
