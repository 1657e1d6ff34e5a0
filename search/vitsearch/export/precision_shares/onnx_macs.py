"""MACs of the operators of an ONNX graph, those of onnxruntime's own among them, by the precision of the arithmetic.

Matrix products and convolutions count, products of attention included; norms, activations and softmax do not, as in
`vitsearch.compress.macs`. Weights that are stored in int8 and multiplied in fp32 count as fp32.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from vitsearch.export.precision_shares.onnx_nodes import OnnxOperator

INT8 = "int8"
FLOAT_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm"})
INT8_PRODUCTS = frozenset({"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"})
FLOAT_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv"})
INT8_CONVOLUTIONS = frozenset({"ConvInteger", "QLinearConv"})
COMPUTED_IN_INT8 = 4
"""`accuracy_level` of MatMulNBits at which onnxruntime rounds the activations to int8, block by block, too."""


def of_node(node: OnnxOperator) -> Counter[str]:
    """Precision -> MACs of one operator; empty for operators that do not count."""
    kind = node.node.op_type
    if kind in FLOAT_PRODUCTS:
        return Counter({node.float_type: _product(node)})
    if kind in INT8_PRODUCTS:
        return Counter({INT8: _product(node)})
    if kind in FLOAT_CONVOLUTIONS:
        return Counter({node.float_type: _convolution(node, 1)})
    if kind in INT8_CONVOLUTIONS:
        return Counter({INT8: _convolution(node, 3 if kind == "QLinearConv" else 1)})
    count_macs = OTHERS.get(kind)
    return count_macs(node) if count_macs else Counter()


def _product(node: OnnxOperator) -> int:
    """Elements of the result x length of the sums."""
    left = node.input(0)
    if not left:
        return 0
    transposed = node.attributes.get("transA", 0)
    return math.prod(node.output) * left[-2 if transposed else -1]


def _convolution(node: OnnxOperator, weight: int) -> int:
    """Elements of the result x weights of one output channel."""
    kernel = node.input(weight)
    return math.prod(node.output) * math.prod(kernel[1:]) if kernel else 0


def _transposed_convolution(node: OnnxOperator) -> Counter[str]:
    """Elements of the input x weights of one input channel."""
    kernel = node.input(1)
    return Counter({node.float_type: math.prod(node.input(0)) * math.prod(kernel[1:]) if kernel else 0})


def _blocks_of_bits(node: OnnxOperator) -> Counter[str]:
    in_int8 = node.attributes.get("accuracy_level", 0) == COMPUTED_IN_INT8
    return Counter({INT8 if in_int8 else node.float_type: math.prod(node.output) * int(node.attributes["K"])})


def _einsum(node: OnnxOperator) -> Counter[str]:
    """The product of the sizes of all letters, for two operands."""
    equation = node.attributes["equation"].decode().replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for index, letters in enumerate(terms):
        sizes |= dict(zip(letters, node.input(index), strict=False))
    return Counter({node.float_type: math.prod(sizes.values()) if len(terms) > 1 else 0})


def _attention_products(node: OnnxOperator) -> Counter[str]:
    """`softmax(q k) v` of MultiHeadAttention and Attention-23: (batch, tokens, width) or (batch, heads, tokens,
    width of a head)."""
    queries, keys = node.input(0), node.input(1)
    if len(queries) not in (3, 4) or not keys:
        return Counter()  # packed into one tensor, which our exporter does not write
    tokens = keys[-2]
    return Counter({node.float_type: (math.prod(queries) + math.prod(node.output)) * tokens})


def _attention_with_weights(node: OnnxOperator) -> Counter[str]:
    """com.microsoft's Attention and QAttention: the projection to queries, keys and values, then their products in
    floats."""
    x, weight = node.input(0), node.input(1)
    if len(weight) != 2:
        return _attention_products(node)  # the operator of ONNX with the same name
    projection, width = math.prod(x) * weight[1], weight[1] // 3
    quantized = node.node.op_type == "QAttention"
    products = 2 * math.prod(x[:-1]) * x[-2] * width
    return Counter({INT8 if quantized else node.float_type: projection}) + Counter({node.float_type: products})


OTHERS: Mapping[str, Callable[[OnnxOperator], Counter[str]]] = {
    "ConvTranspose": _transposed_convolution,
    "MatMulNBits": _blocks_of_bits,
    "Einsum": _einsum,
    "MultiHeadAttention": _attention_products,
    "Attention": _attention_with_weights,
    "QAttention": _attention_with_weights,
}
COUNTED = FLOAT_PRODUCTS | INT8_PRODUCTS | FLOAT_CONVOLUTIONS | INT8_CONVOLUTIONS | OTHERS.keys()
"""The operators that count."""
