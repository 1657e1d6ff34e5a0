"""Model files written by hand: small, valid, and easy to corrupt."""

import struct

from vitsearch_agent.base.onnx_writer import ELEMENT_TYPES, Value, field, model, node, number


def identity(opset=13, ir_version=7, nodes=None, shape=(1,)):
    """Return an ONNX file that copies `x` to `y`, both of `shape`; a text is the name of an open dimension.

    With the shape None the file does not declare their dimensions.
    """
    if shape is None:
        undeclared = [field(1, name) + field(2, field(1, number(1, ELEMENT_TYPES["float32"]))) for name in (b"x", b"y")]
        graph = field(1, node("Identity", ["x"], "y")) + field(2, b"graph")
        graph += field(11, undeclared[0]) + field(12, undeclared[1])
        return number(1, ir_version) + field(7, graph) + field(8, field(1, b"") + number(2, opset))
    ends = Value("x", "float32", shape), Value("y", "float32", shape)
    return model(nodes or [node("Identity", ["x"], "y")], [ends[0]], [ends[1]], opset, ir_version)


def added_row(shape, name="x", width=8, listed=(), node_name="add"):
    """Return an ONNX file that adds a constant row of `width` numbers to an input of `shape`; `listed`: more inputs."""
    row = number(1, width) + number(2, ELEMENT_TYPES["float32"]) + field(8, b"row") + field(9, bytes(4 * width))
    ends = Value(name, "float32", shape), Value("y", "float32", shape)
    add = node("Add", [name, "row"], "y") + field(3, node_name.encode())
    return model([add], [ends[0], *listed], [ends[1]], 13, 7, [row])


def constant():
    """Return an ONNX file that has no inputs."""
    shape = number(1, 1) + number(2, ELEMENT_TYPES["int64"]) + field(8, b"shape") + field(9, struct.pack("<q", 2))
    fill = node("ConstantOfShape", ["shape"], "y")
    return model([fill], [], [Value("y", "float32", (2,))], 13, 7, [shape])


def tflite(custom=None, identifier=b"TFL3", version=3, external=None, weights=None, behind=None, image=None):
    """Return a flatbuffer with one subgraph, one operator code and one buffer.

    `external`: the model field that gets an entry; `weights`: the declared length of the buffer's vector of 8 bytes;
    `behind`: the declared (offset, size) of the buffer's content behind the flatbuffer; `image`: the name, shape and
    shape signature (None: none) of the subgraph's input (None: the subgraph is an empty table).
    """
    out = bytearray(b"\0\0\0\0" + identifier)

    def put(content):
        while len(out) % 4:
            out.append(0)
        at = len(out)
        out.extend(content)
        return at

    def offset(at, target):
        out[at : at + 4] = struct.pack("<I", target - at)

    def table(*fields):
        """Write a table of 4-byte or raw fields (None: absent); return its position and those of its fields."""
        contents = [struct.pack("<I", value) if isinstance(value, int) else value for value in fields]
        slots, size = [], 4
        for content in contents:
            slots.append(0 if content is None else size)
            size += len(content or b"")
        vtable = put(struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots))
        at = len(out) + (-len(out) % 4)
        put(struct.pack("<i", at - vtable) + b"".join(filter(None, contents)))
        return at, [at + slot for slot in slots]

    def vector_of(at, *fields):
        """Write a vector of one table for the field at `at`; return the positions of the table's fields."""
        vector = put(struct.pack("<II", 1, 0))
        offset(at, vector)
        inner, positions = table(*fields)
        offset(vector + 4, inner)
        return positions

    entries = [0 if number == external else None for number in (8, 9)]
    root, fields = table(version, 0, 0, None, 0, None, None, None, *entries)
    offset(0, root)
    if external is not None:
        vector_of(fields[external])
    span = [None, None] if behind is None else [struct.pack("<Q", number) for number in behind]
    positions = vector_of(fields[4], None if weights is None else 0, *span)
    if weights is not None:
        offset(positions[0], put(struct.pack("<I", weights) + b"\0" * 8))
    positions = vector_of(fields[1], 0, None if custom is None else 0)
    if custom is not None:
        offset(positions[1], put(struct.pack("<I", len(custom)) + custom + b"\0"))
    if image is None:
        vector_of(fields[2])
        return bytes(out)
    name, *shapes = image
    graph = vector_of(fields[2], 0, 0)
    signature = None if shapes[1] is None else 0
    tensor = vector_of(graph[0], 0, None, None, 0, None, None, None, signature)
    offset(tensor[3], put(struct.pack("<I", len(name)) + name.encode() + b"\0"))
    for at, numbers in ((graph[1], [0]), (tensor[0], shapes[0]), (tensor[7], shapes[1])):
        if numbers is not None:
            offset(at, put(struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers)))
    return bytes(out)


IR = """<?xml version="1.0"?>
<net name="tiny" version="11">
  <layers>
    <layer id="0" name="/blocks.0/w" type="Const" version="{opset}">
      <data element_type="f32" shape="2" offset="{offset}" size="8" />
      <output><port id="0" precision="FP32"><dim>2</dim></port></output>
    </layer>
  </layers>
  <edges />
  <rt_info><conversion_parameters><input_model value="/home/me/model.onnx" /></conversion_parameters></rt_info>
</net>
"""


def coreml_weights(count=1, mark=0xDEADBEEF, version=2, size=8, offset=128):
    """Return a file of Core ML weights with one tensor of 8 bytes, whose record declares `size` and `offset`."""
    record = struct.pack("<IIQQ40x", mark, 2, size, offset)
    return struct.pack("<II56x", count, version) + record + bytes(8)


def coreml(operator="const", opset="CoreML7", file="@model_path/weights/weight.bin", at=64, version=8, kind=502):
    """Return a Core ML program that has one operator with a constant at byte `at` of a file."""
    blob = field(5, field(1, file.encode()) + number(2, at))
    value = field(5, field(1, b"val") + field(2, blob))
    block = field(3, field(1, operator.encode()) + value) + field(2, b"logits")
    function = field(2, opset.encode()) + field(3, field(1, opset.encode()) + field(2, block))
    program = number(1, 1) + field(2, field(1, b"main") + field(2, function))
    return number(1, version) + field(2, field(1, field(1, b"images"))) + field(kind, program)
