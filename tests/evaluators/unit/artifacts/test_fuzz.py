"""Fuzzed model files: each one passes or is refused with a reason.

Where `onnx` is installed, it is the reference: a file must not pass if `onnx` finds external data in it, foreign
operators, or newer versions than the checks found.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.artifact_files import IR, coreml, coreml_weights, identity, tflite
from support.marks import long
from support.ncnn_files import PARAM
from support.pte_program import PROGRAM
from vitsearch_agent import artifacts
from vitsearch_agent.base.onnx_writer import field, node, number, varint
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.wire.job_spec import ARTIFACTS

ONNX = identity(opset=17, ir_version=8) + field(7, field(5, number(1, 4) + number(2, 1) + field(9, b"\1" * 16)))
SEEDS = {
    "onnx": (
        ONNX,
        identity(nodes=[node("If", ["c"], "y", [field(1, b"then") + field(6, field(5, number(14, 1)))])]),
        identity(nodes=[node("Evil", ["x"], "y", domain="com.acme")]),
        ONNX + field(25, field(1, b"F") + field(10, b"own") + field(7, node("Identity", ["x"], "y"))),
    ),
    "tflite": (tflite(), tflite(custom=b"FlexErf")),
    "executorch": (PROGRAM,),
    "openvino": (IR.format(opset="opset1", offset=0).encode(), IR.format(opset="extension", offset=9).encode()),
    "ncnn": (PARAM.encode(), PARAM.replace("InnerProduct", "torch.unbind").encode()),
    "coreml": (coreml(), coreml(file="/etc/passwd"), coreml(operator="custom_layer"), coreml(at=128)),
}
PIECES = (
    b"\xff" * 11,
    b"\x80" * 9 + b"\1",
    b"\0",
    varint(2**63),
    varint(2**32 - 1),
    number(14, 1),
    number(14, 2**32 + 1),
    number(1, 2**62),
    field(13, field(1, b"location") + field(2, b"/etc/passwd")),
    field(8, number(2, 999)),
    b"\x0b\x0c",
    b"<!DOCTYPE a>",
    b"&a;",
    b"<layer/>",
    b"offset='-9'",
    b"\xff\xff\xff\x7f",
)


@st.composite
def corrupted(draw, kind):
    """A real file with changed bytes, pieces inserted, removed or doubled, or its end cut off."""
    content = bytearray(draw(st.sampled_from(SEEDS[kind])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        how = draw(st.integers(0, 4))
        if how == 0:
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == 1:
            content[at:at] = draw(st.sampled_from(PIECES))
        elif how == 2:
            del content[at : at + draw(st.integers(1, 16))]
        elif how == 3:
            content[at:at] = content[at : at + draw(st.integers(1, 64))]
        else:
            del content[at:]
    return bytes(content)


def inspected(kind, folder, content):
    """Return the facts, or None for a refusal; anything else that is raised fails the test."""
    name = ARTIFACTS[kind][0]
    files = {name: str(folder / name), "model.bin": str(folder / "model.bin")}
    (folder / name).write_bytes(content)
    (folder / "model.bin").write_bytes(coreml_weights() if kind == "coreml" else b"\0" * 8)
    try:
        return artifacts.inspect(kind, files)
    except MeasurementFailed as caught:
        refusal = caught
    assert refusal.kind == "incompatible_artifact"
    assert str(refusal)
    return None


@pytest.mark.parametrize("kind", ["coreml", "ncnn", *long("tflite", "executorch", "openvino")])
def test_a_corrupted_file_passes_or_is_refused(kind, tmp_path, fuzz):
    passed = []

    @fuzz(700)
    @given(corrupted(kind))
    def check(content):
        passed.append(inspected(kind, tmp_path, content) is not None)

    check()
    assert 0 < sum(passed) < len(passed)


def external(message):
    """Whether a protobuf message has, at any depth, a tensor with external data."""
    name = message.DESCRIPTOR.name
    if name == "TensorProto" and (message.data_location == 1 or len(message.external_data)):
        return True
    nested = [value for descriptor, value in message.ListFields() if descriptor.message_type is not None]
    singles = [value for value in nested if hasattr(value, "ListFields")]
    many = [value for values in nested if not hasattr(values, "ListFields") for value in values]
    return any(external(value) for value in singles + many if hasattr(value, "ListFields"))


def foreign(model):
    """The operators of the main graph that are neither onnx's nor the model's own."""
    own = {(function.domain, function.name) for function in model.functions}
    used = {(node.domain, node.op_type) for node in model.graph.node}
    return {domain for domain, name in used - own if domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")}


@pytest.mark.long
def test_corrupted_onnx_files_never_pass_with_less_than_onnx_finds(tmp_path, fuzz):
    onnx = pytest.importorskip("onnx")
    passed = []

    @fuzz(2000)
    @given(corrupted("onnx"))
    def check(content):
        facts = inspected("onnx", tmp_path, content)
        passed.append(facts is not None)
        model = onnx.ModelProto()
        try:
            model.ParseFromString(content)
        except Exception:  # noqa: BLE001 - what protobuf cannot read, no runtime reads
            return
        if facts is not None:
            assert not external(model)
            assert not foreign(model)
            assert facts.ir_version % 2**64 == model.ir_version % 2**64
            for opset in model.opset_import:
                domain = "" if opset.domain == "ai.onnx" else opset.domain
                assert facts.opsets[domain] % 2**64 >= opset.version % 2**64

    check()
    assert 0 < sum(passed) < len(passed)
