"""The two reference models that alternate with a measured model in its process: ONNX files written byte by byte.

    products        image [1, 32, 416] --> (MatMul with a 416 x 416 matrix, Relu) x 24
                    16 MB of weights stream through the caches, as in a transformer whose weights do not fit;
                    with 6 MB, one busy neighbour moved the ratio of a ViT of 10 MB by 6 to 7 % (with 16 MB by 1)
    convolutions    image [1, 32, 14, 14] --> (depthwise 3 x 3, Relu, 1 x 1, Relu) x 24
                    small maps and few weights: mostly the overhead of 96 small operators, as in a small hybrid model

A neighbour on the machine slows the first by the memory that both use, and the second by the processor that both use.
Most models are slowed by something in between. The weights come from ConstantOfShape nodes, so that small files give a
real amount of work (130 and 6 million multiply-adds). No value overflows or becomes denormal, which would be slow.
"""

import os
import struct
from typing import List, Tuple

from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.onnx_writer import (
    Value,
    integer_attribute,
    integers_attribute,
    model,
    node,
    tensor,
    tensor_attribute,
)

_IR_VERSION, _OPSET = 7, 13
_ROWS, _WIDTH, _PRODUCTS = 32, 416, 24
PRODUCTS_BYTES = 4 * _WIDTH * _WIDTH * _PRODUCTS
"""The weights of the products."""
_CHANNELS, _PIXELS, _CONVOLUTIONS = 32, 14, 24


def products() -> bytes:
    """Return the file of the model of large products."""
    return product_chain(_ROWS, _WIDTH, _PRODUCTS)


def product_chain(rows: int, width: int, length: int) -> bytes:
    """Return an ONNX file: image [1, rows, width], then `length` times a product with its own matrix and a Relu."""
    nodes: List[bytes] = []
    value = "image"
    for index in range(length):
        # Each matrix differs a little, so that no optimizer makes one of them all.
        nodes.append(_filled(f"weight{index}", "matrix", (1 + index / 1024) / width))
        nodes.append(node("MatMul", [value, f"weight{index}"], f"product{index}"))
        value = f"value{index}" if index < length - 1 else "logits"
        nodes.append(node("Relu", [f"product{index}"], value))
    image, logits = (Value(name, "float32", (1, rows, width)) for name in ("image", "logits"))
    return model(nodes, [image], [logits], _OPSET, _IR_VERSION, [_shape("matrix", width, width)])


def convolutions() -> bytes:
    """Return the file of the model of small convolutions."""
    nodes: List[bytes] = []
    value = "image"
    for index in range(_CONVOLUTIONS):
        nodes.append(_filled(f"depth{index}", "depthwise", 1 / 9))
        nodes.append(_filled(f"point{index}", "pointwise", (1 + index / 1024) / _CHANNELS))
        attributes = [integers_attribute("pads", [1, 1, 1, 1]), integer_attribute("group", _CHANNELS)]
        nodes.append(node("Conv", [value, f"depth{index}"], f"spread{index}", attributes))
        nodes.append(node("Relu", [f"spread{index}"], f"positive{index}"))
        nodes.append(node("Conv", [f"positive{index}", f"point{index}"], f"mixed{index}"))
        value = f"value{index}" if index < _CONVOLUTIONS - 1 else "logits"
        nodes.append(node("Relu", [f"mixed{index}"], value))
    image, logits = (Value(name, "float32", (1, _CHANNELS, _PIXELS, _PIXELS)) for name in ("image", "logits"))
    shapes = [_shape("depthwise", _CHANNELS, 1, 3, 3), _shape("pointwise", _CHANNELS, _CHANNELS, 1, 1)]
    return model(nodes, [image], [logits], _OPSET, _IR_VERSION, shapes)


def write(folder: str) -> Tuple[str, str]:
    """Write both files into a folder and return their paths, products first."""
    paths = os.path.join(folder, "products.onnx"), os.path.join(folder, "convolutions.onnx")
    for path, content in zip(paths, (products(), convolutions())):
        with open(path, "wb") as stream:
            stream.write(content)
    return paths


def reference_digest() -> str:
    """Return the digest of both models; it is `wire.measure_protocol.REFERENCE` as long as nobody changes them."""
    return digest({"products": products().hex(), "convolutions": convolutions().hex()})


def _filled(name: str, shape: str, value: float) -> bytes:
    """Return a node that fills a tensor of the given shape with one value."""
    return node("ConstantOfShape", [shape], name, [tensor_attribute("value", tensor("", "float32", [1], _f32(value)))])


def _shape(name: str, *sizes: int) -> bytes:
    return tensor(name, "int64", [len(sizes)], struct.pack(f"<{len(sizes)}q", *sizes))


def _f32(value: float) -> bytes:
    return struct.pack("<f", value)
