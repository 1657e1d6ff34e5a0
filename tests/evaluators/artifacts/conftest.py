import struct

import pytest

from vitsearch_evaluators.onnx_writing import Value, model, node


@pytest.fixture
def onnx_file(tmp_path):
    """Write a file under an artifact's name and return the mapping that `inspect` takes."""

    def write(content, name="model.onnx"):
        (tmp_path / name).write_bytes(content)
        return {name: str(tmp_path / name)}

    return write


def identity(opset=13, ir_version=7, nodes=None):
    ends = Value("x", "float32", (1,)), Value("y", "float32", (1,))
    return model(nodes or [node("Identity", ["x"], "y")], [ends[0]], [ends[1]], opset, ir_version)


def tflite(custom=None, identifier=b"TFL3", version=3):
    """A flatbuffer with one subgraph (an empty table) and one operator code, written back to front by hand."""
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
        """Fields of 4 bytes each, None for one that is left out; return the table and where each field lies."""
        slots, size = [], 4
        for value in fields:
            slots.append(0 if value is None else size)
            size += 0 if value is None else 4
        vtable = put(struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots))
        at = len(out) + (-len(out) % 4)
        put(struct.pack("<i", at - vtable) + b"".join(struct.pack("<I", v) for v in fields if v is not None))
        return at, [at + slot for slot in slots]

    root, (_, codes, graphs) = table(version, 0, 0)
    offset(0, root)
    vector = put(struct.pack("<II", 1, 0))
    offset(codes, vector)
    code, fields = table(0, None if custom is None else 0)
    offset(vector + 4, code)
    if custom is not None:
        offset(fields[1], put(struct.pack("<I", len(custom)) + custom + b"\0"))
    vector = put(struct.pack("<II", 1, 0))
    offset(graphs, vector)
    graph, _ = table()
    offset(vector + 4, graph)
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
