"""ONNX files that want files of others, memory, or all the time: each is refused or fails with one reason."""

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

WIDTH = 192
BYTES = 4 * WIDTH * WIDTH
FLATTEN = helper.make_node("Flatten", ["x"], ["flat"])
PRODUCT = helper.make_node("MatMul", ["flat", "w"], ["y"])
IMAGES = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
LOGITS = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH])
TRUE = helper.make_tensor("true", TensorProto.BOOL, [], [True])


def weights(shape: Sequence[int] = (WIDTH, WIDTH), content: bytes = bytes(BYTES), **external: str) -> TensorProto:
    """The initializer `w`; with `external`, in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape)
    if not external:
        tensor.raw_data = content
        return tensor
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in external.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def file_of(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[TensorProto] = (),
    opset: int = 17,
    inputs: Sequence[onnx.ValueInfoProto] = (IMAGES,),
    outputs: Sequence[onnx.ValueInfoProto] = (LOGITS,),
) -> bytes:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def product(*arguments: object, **options: object) -> bytes:
    return file_of([FLATTEN, PRODUCT], [weights(*arguments, **options)])  # type: ignore[arg-type]


def sound() -> bytes:
    return product()


def endless() -> bytes:
    """A loop whose condition stays true."""
    ends = helper.make_tensor_value_info
    condition, state = ends("c", TensorProto.BOOL, []), ends("s", TensorProto.FLOAT, [1, WIDTH])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["s"], ["s2"])],
        "body",
        [ends("i", TensorProto.INT64, []), condition, state],
        [ends("c2", TensorProto.BOOL, []), ends("s2", TensorProto.FLOAT, [1, WIDTH])],
    )
    return file_of([FLATTEN, helper.make_node("Loop", ["", "true", "flat"], ["y"], body=body)], [TRUE])


def filling() -> bytes:
    """Four terabytes of zeros, made when it runs."""
    nodes = [
        FLATTEN,
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceMean", ["zeros"], ["mean"], keepdims=0),
        helper.make_node("Add", ["flat", "mean"], ["y"]),
    ]
    return file_of(nodes, [helper.make_tensor("size", TensorProto.INT64, [1], [2**40])])


def claimed() -> bytes:
    """A field that says that it has 2 GB."""
    content = sound()
    return content[:40] + b"\x4a\xff\xff\xff\xff\x07" + content[40:]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "weights at an absolute path": lambda: product(location="/etc/passwd"),
    "weights in a folder above": lambda: product(location="../outside.bin"),
    "weights behind a link": lambda: product(location="link.bin"),
    "weights of 4 EB in a file": lambda: product(location="weights.bin", length=str(2**62)),
    "a huge shape": lambda: product((2**40, 2**40), b""),
    "a shape of 6 TB": lambda: product((WIDTH, 2**33), bytes(8)),
    "a negative shape": lambda: product((-WIDTH, WIDTH)),
    "weights that are texts": lambda: file_of(
        [FLATTEN, PRODUCT], [helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"b"])]
    ),
    "no outputs": lambda: file_of([FLATTEN], outputs=()),
    "an unknown opset": lambda: file_of([FLATTEN, PRODUCT], [weights()], opset=999),
    "an unknown operator": lambda: file_of([FLATTEN, helper.make_node("Nonsense", ["flat"], ["y"])]),
    "a cycle": lambda: file_of([helper.make_node("Add", ["x", "y"], ["y"])]),
    "images of 3 * 2^80 pixels": lambda: file_of(
        [FLATTEN, PRODUCT],
        [weights()],
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2**40, 2**40])],
    ),
    "2 GB that are not there": claimed,
    "terabytes of zeros": filling,
    "bytes that are no model": lambda: b"\x08\x08" + bytes(range(256)),
    "nothing": lambda: b"",
    "an endless loop": endless,
}


def write_beside(folder: Path) -> None:
    """The files that hostile ones name."""
    (folder.parent / "outside.bin").write_bytes(bytes(BYTES))
    (folder / "weights.bin").write_bytes(bytes(BYTES))
    (folder / "link.bin").symlink_to("/etc/passwd")
