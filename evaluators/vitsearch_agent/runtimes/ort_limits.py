"""Find the newest ONNX versions that an onnxruntime reads, by loading tiny models of rising versions.

Published version tables do not cover every build (JetPack's, distributions', nightly ones). Loading is exact:
a build rejects a version that it does not know. Found this way: 1.6.0 (Python 3.6) reads opset 13 and IR 7,
1.12.1 reads 17 and 8, 1.18.1 reads 21 and 10, in agreement with
https://onnxruntime.ai/docs/reference/compatibility.html.
"""

from typing import Callable, List, NamedTuple, Optional, Tuple

from vitsearch_agent.base.onnx_writer import Value, model, node

_OPSET, _IR_VERSION = 11, 6
"""Read by every onnxruntime since 1.0 (2019)."""
_ENOUGH = 64


class Limits(NamedTuple):
    """The newest versions and the precisions that a build reads; a version is None if the build rejects none."""

    max_opset: Optional[int]
    max_ir_version: Optional[int]
    precisions: Tuple[str, ...]


def find_limits(loads: Callable[[bytes], bool]) -> Limits:
    """Call `loads` with tiny models, from the oldest version up to the first one that it rejects."""
    return Limits(
        _newest(_OPSET, lambda opset: loads(_identity(opset=opset))),
        _newest(_IR_VERSION, lambda version: loads(_identity(ir_version=version))),
        tuple(name for name, content in _products() if loads(content)),
    )


def _newest(first: int, loads: Callable[[int], bool]) -> Optional[int]:
    for version in range(first, _ENOUGH):
        if not loads(version):
            return version - 1 if version > first else None
    return None


def _identity(opset: int = _OPSET, ir_version: int = _IR_VERSION) -> bytes:
    ends = Value("x", "float32", (1,)), Value("y", "float32", (1,))
    return model([node("Identity", ["x"], "y")], [ends[0]], [ends[1]], opset, ir_version)


def _products() -> List[Tuple[str, bytes]]:
    """Return (precision, model) pairs: a matrix product in each precision, named as in a space file."""
    products = []
    for name, left, right, outside, operator in (
        ("fp32", "float32", "float32", "float32", "MatMul"),
        ("fp16", "float16", "float16", "float16", "MatMul"),
        ("bf16", "bfloat16", "bfloat16", "bfloat16", "MatMul"),
        ("int8", "uint8", "int8", "int32", "MatMulInteger"),
    ):
        ends = [Value("a", left, (4, 4)), Value("b", right, (4, 4))]
        nodes = [node(operator, ["a", "b"], "y")]
        products.append((name, model(nodes, ends, [Value("y", outside, (4, 4))], 13, 7)))
    return products
