"""What the checks find in each kind of file, written by hand or by the real exporters where they are installed."""

import os
import pickle
import sys
import time

import pytest

from support.artifact_files import IR, added_row, constant, identity, tflite
from support.pte_program import PROGRAM
from vitsearch_agent import artifacts
from vitsearch_agent.artifacts import executorch_file, openvino_file
from vitsearch_agent.artifacts.onnx_file import CALIBRATION
from vitsearch_agent.base.onnx_writer import Value, field, node, number, varint
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.wire.device_info import ANY_ARTIFACT, RuntimeInfo

RUNTIME = RuntimeInfo("onnxruntime", True, None, "1.9.0", (), ("onnx",), max_opset=15, max_ir_version=8)


def refused(kind, files):
    with pytest.raises(MeasurementFailed) as caught:
        artifacts.inspect(kind, files)
    assert caught.value.kind == "incompatible_artifact"
    return str(caught.value)


def test_finds_the_versions_of_an_onnx_file(onnx_file):
    facts = artifacts.inspect("onnx", onnx_file(identity(opset=17, ir_version=9)))
    assert facts == ("onnx", 9, {"": 17})


def test_finds_the_versions_that_a_real_exporter_wrote(tiny_onnx):
    onnx = pytest.importorskip("onnx")
    path = tiny_onnx()
    model = onnx.load(path)
    facts = artifacts.inspect("onnx", {"model.onnx": path})
    assert (facts.ir_version, facts.opsets) == (model.ir_version, {"": model.opset_import[0].version})


@pytest.mark.parametrize(
    ("shape", "dims"),
    [(("batch", 3, 8), ["batch", 3, 8]), ((), []), ((0, 5), [0, 5])],
)
def test_finds_the_inputs_of_an_onnx_file(onnx_file, shape, dims):
    path = onnx_file(identity(shape=shape))["model.onnx"]
    assert artifacts.declared_inputs("onnx", path) == [("x", dims)]


def test_weights_are_no_inputs_and_a_model_may_have_none(onnx_file):
    row = Value("row", "float32", (8,))
    assert artifacts.declared_inputs("onnx", onnx_file(added_row(("batch", 8)))["model.onnx"]) == [("x", ["batch", 8])]
    old = added_row((1, 8), listed=[row])
    assert artifacts.declared_inputs("onnx", onnx_file(old)["model.onnx"]) == [("x", [1, 8])]
    assert artifacts.declared_inputs("onnx", onnx_file(constant())["model.onnx"]) == []


def test_finds_the_inputs_that_a_real_exporter_wrote(tiny_onnx):
    assert artifacts.declared_inputs("onnx", tiny_onnx(batch="n")) == [("image", ["n", 8])]


def with_metadata(onnx_file, *entries):
    texts = b"".join(field(14, field(1, key.encode()) + field(2, value.encode())) for key, value in entries)
    return onnx_file(identity() + texts)["model.onnx"]


class TestCalibration:
    def test_the_scales_are_found_among_other_metadata(self, onnx_file):
        scales = "x: 3c008912\na:b: 3d895e44\n"
        path = with_metadata(onnx_file, ("vitsearch.labels", "[]"), (CALIBRATION, scales), ("other", ""))
        assert artifacts.calibration(path) == scales

    def test_a_long_list_is_read_whole(self, onnx_file):
        scales = "".join(f"/blocks.{number}/mlp/fc1/Add_output_0/input: 3c008912\n" for number in range(2000))
        assert artifacts.calibration(with_metadata(onnx_file, (CALIBRATION, scales))) == scales

    def test_a_model_without_scales_has_none(self, onnx_file):
        assert artifacts.calibration(with_metadata(onnx_file, ("vitsearch.labels", "[]"))) is None

    @pytest.mark.parametrize("scales", ["x 3c008912\n", "x: 3c00\n", "x: 3c008912", "x: 3c008912\n\n"])
    def test_a_malformed_list_is_refused(self, scales, onnx_file):
        with pytest.raises(MeasurementFailed, match="vitsearch.calibration is not a list of tensors and scales"):
            artifacts.calibration(with_metadata(onnx_file, (CALIBRATION, scales)))


@pytest.mark.parametrize(
    ("image", "inputs"),
    [
        (("image:0", [1, 8], None), [("image:0", [1, 8])]),
        (("image:0", [1, 8], [-1, 8]), [("image:0", [-1, 8])]),
        (None, []),
    ],
)
def test_finds_the_inputs_of_a_tflite_file(tmp_path, image, inputs):
    (tmp_path / "model.tflite").write_bytes(tflite(image=image))
    assert artifacts.declared_inputs("tflite", str(tmp_path / "model.tflite")) == inputs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\0" * 100, "zeros"),
        (pickle.dumps({"a": 1}, 4), "a pickle, which is code"),
        (b"PK\x03\x04" + b"x" * 60, "zip archive"),
        (b"\x7fELF\x02\x01", "code is not accepted"),
        (b"ftrt\x00\x00\x00\x00", "TensorRT engine"),
        (b"\x20\0\0\0ORTM", "own format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"\x10\0\0\0\0\0\0\0" + b'{"w":{}}', "safetensors"),
        (b"<!DOCTYPE html><html>", "web page"),
        (tflite(), "is tflite, but was sent as onnx"),
        (PROGRAM, "is executorch, but was sent as onnx"),
        (IR.encode(), "is openvino, but was sent as onnx"),
        (b"\xff\x00garbage" * 64, "not an ONNX file"),
        (identity()[:-3], "not an ONNX file"),
        (number(1, 7), "no IR version or no graph"),
    ],
)
def test_a_file_that_is_not_onnx_is_described(content, message, onnx_file):
    assert message in refused("onnx", onnx_file(content))


EXTERNAL = number(2, 1) + field(8, b"w") + number(14, 1)
ENTRY = number(2, 1) + field(8, b"w") + field(13, field(1, b"location") + field(2, b"../../secret"))
WRAPPED = number(2, 1) + field(8, b"w") + number(14, (1 << 32) + 1)
"""protobuf keeps 32 bits of an enum: this is EXTERNAL too."""


def attribute(key, content):
    return field(1, b"a") + field(key, content)


@pytest.mark.parametrize("tensor", [EXTERNAL, ENTRY, WRAPPED])
@pytest.mark.parametrize(
    "embed",
    [
        lambda tensor: field(7, field(5, tensor)),
        lambda tensor: field(7, field(15, field(1, tensor))),
        lambda tensor: field(7, field(1, node("Constant", [], "w", [attribute(5, tensor)]))),
        lambda tensor: field(7, field(1, node("Constant", [], "w", [attribute(10, tensor)]))),
        lambda tensor: field(7, field(1, node("Constant", [], "w", [attribute(22, field(2, tensor))]))),
        lambda tensor: field(7, field(1, node("If", ["c"], "w", [attribute(6, field(5, tensor))]))),
        lambda tensor: field(7, field(1, node("If", ["c"], "w", [attribute(11, field(5, tensor))]))),
        lambda tensor: field(25, field(7, node("Constant", [], "w", [attribute(5, tensor)]))),
        lambda tensor: field(20, field(1, field(5, tensor))),
    ],
)
def test_external_data_is_refused_in_every_tensor(embed, tensor, onnx_file):
    assert "external files" in refused("onnx", onnx_file(identity() + embed(tensor)))


def test_operators_of_a_foreign_domain_are_refused_by_name(onnx_file):
    foreign = [node("Evil", ["x"], "y", domain="com.acme")]
    assert "'Evil' is from the domain 'com.acme'" in refused("onnx", onnx_file(identity(nodes=foreign)))


def test_functions_of_the_model_are_allowed_in_any_domain(onnx_file):
    own = [node("Gelu", ["x"], "y", domain="pkg.mine")]
    function = field(25, field(1, b"Gelu") + field(10, b"pkg.mine") + field(7, node("Identity", ["x"], "y")))
    assert artifacts.inspect("onnx", onnx_file(identity(nodes=own) + function)).ir_version == 7


def test_an_engine_inside_a_node_is_refused_even_as_a_function(onnx_file):
    nodes = [node("EPContext", ["x"], "y", domain="com.microsoft")]
    function = field(25, field(1, b"EPContext") + field(10, b"com.microsoft"))
    assert "runs code" in refused("onnx", onnx_file(identity(nodes=nodes) + function))


def test_deep_nesting_is_refused_without_recursion(onnx_file):
    content = field(2, b"inner")
    for _ in range(sys.getrecursionlimit()):
        content = field(1, node("If", ["c"], "w", [attribute(6, content)]))
    assert "deeper than 100" in refused("onnx", onnx_file(number(1, 7) + field(7, content)))


def test_a_file_with_too_many_fields_is_refused(onnx_file, monkeypatch):
    monkeypatch.setattr("vitsearch_agent.artifacts.onnx_file._FIELDS_MAX", 1000)
    assert "too many fields" in refused("onnx", onnx_file(number(1, 7) + number(5, 1) * 1000))


def test_weights_are_skipped(tmp_path):
    """A sparse file of 512 MiB takes no longer than its few fields."""
    path, weights_bytes = str(tmp_path / "large.onnx"), 512 << 20
    tensor = number(2, 1) + field(8, b"w") + b"\x4a" + varint(weights_bytes)
    graph = b"\x2a" + varint(len(tensor) + weights_bytes) + tensor
    start = identity() + b"\x3a" + varint(len(graph) + weights_bytes) + graph
    with open(path, "wb") as stream:
        stream.write(start)
        stream.truncate(len(start) + weights_bytes)
    before_s = time.process_time()
    assert artifacts.inspect("onnx", {"model.onnx": path}).opsets == {"": 13}
    of_one_byte_each_s = 512  # at a microsecond
    assert time.process_time() - before_s < of_one_byte_each_s / 100


@pytest.mark.parametrize("content", [tflite(), tflite(weights=8), tflite(behind=(1, 0)), tflite(behind=(8, 32))])
def test_valid_tflite_files_pass(content, onnx_file):
    assert artifacts.inspect("tflite", onnx_file(content, "model.tflite")).kind == "tflite"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tflite(custom=b"FlexErf"), "'FlexErf' is a custom operator"),
        (tflite(external=8), "external files"),
        (tflite(external=9), "external files"),
        (tflite(weights=2**31), "outside the file"),
        (tflite(behind=(8, 10**6)), "outside the file"),
        (tflite(behind=(2**63, 8)), "outside the file"),
        (tflite(identifier=b"TFL9"), "identifier is not TFL3"),
        (tflite(version=2), "schema is not version 3"),
        (tflite()[:12], "outside the file"),
        (b"\xff\xff\xff\xff" + tflite()[4:], "outside the file"),
        (b"TFL", "outside the file"),
        (identity(), "not a TFLite file"),
    ],
)
def test_malformed_or_foreign_tflite_files_are_refused(content, message, onnx_file):
    assert message in refused("tflite", onnx_file(content, "model.tflite"))


def test_a_valid_program_passes_with_what_metadata_adds_behind_it(onnx_file):
    assert artifacts.inspect("executorch", onnx_file(PROGRAM, "model.pte")).kind == "executorch"
    assert artifacts.inspect("executorch", onnx_file(PROGRAM + b"PK", "model.pte")).kind == "executorch"


def test_a_program_says_what_it_calls(tmp_path):
    (tmp_path / "model.pte").write_bytes(PROGRAM)
    with (tmp_path / "model.pte").open("rb") as stream:
        program = executorch_file.program(stream, len(PROGRAM))
    assert program.delegate_calls == 1
    assert [call.operator for call in program.kernels] == ["aten::native_layer_norm.out"]
    assert program.kernels[0].shapes[0] == (1, 8)
    (delegate,) = program.delegates
    assert PROGRAM[delegate.offset + 4 : delegate.offset + 8] == b"XH00"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PROGRAM[:2000], f"cut off: 2000 of {len(PROGRAM)} bytes"),
        (PROGRAM[:20], "outside the file"),
        (PROGRAM[:8] + b"eh01" + PROGRAM[12:], "no header (eh00)"),
        (b"\xff\xff\xff\x7f" + PROGRAM[4:], "outside the file"),
        (PROGRAM.replace(b"XnnpackBackend", b"CudaBackend.so"), "'CudaBackend.so' is not accepted"),
        (PROGRAM[:4] + b"ET99" + PROGRAM[8:], "identifier is not ET12"),
        (identity(), "not an ExecuTorch program"),
    ],
)
def test_malformed_or_foreign_programs_are_refused(content, message, onnx_file):
    assert message in refused("executorch", onnx_file(content, "model.pte"))


def pair(write, xml, weights=b"\0" * 8):
    return dict(write(xml, "model.xml"), **write(weights, "model.bin"))


def test_a_valid_openvino_ir_passes(onnx_file):
    good = IR.format(opset="opset1", offset=0).encode()
    assert artifacts.inspect("openvino", pair(onnx_file, good)).kind == "openvino"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IR.format(opset="extension", offset=0), "from the set 'extension'"),
        (IR.format(opset="opset1", offset=1), "the weights have 8 bytes"),
        (IR.format(opset="opset1", offset=-1), "the weights have 8 bytes"),
        (IR.format(opset="opset1", offset=0).replace('version="11"', 'version="6"'), "version 10 or 11"),
        ("<net version='11'></net>", "no layers"),
        ("<net version='11'>" + "<a>" * 100, "nested deeper than 64"),
        ("<net version='11'>", "no element found"),
        ("<?xml version='1.0' encoding='zlib'?><net version='11'/>", "no layers"),
        ('<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><net>&b;</net>', "document type"),
        ('<?xml version="1.0"?><!DOCTYPE net SYSTEM "file:///etc/passwd"><net/>', "document type"),
    ],
)
def test_malformed_or_foreign_openvino_files_are_refused(content, message, onnx_file):
    assert message in refused("openvino", pair(onnx_file, content.encode()))


def test_one_very_long_token_takes_no_longer_than_many_short_ones(onnx_file):
    """At each piece of the file expat reads an unfinished token from its start again."""

    def cost_s(content):
        files = pair(onnx_file, b"<net version='11'>" + content)
        before_s = time.process_time()
        assert "no element found" in refused("openvino", files)
        return time.process_time() - before_s

    size = 16 << 20
    assert cost_s(b"<!--" + b"x" * size + b"-->") < 12 * cost_s(b"<!-- -->" * (size // 8))


def test_a_too_large_xml_is_refused(onnx_file, tmp_path):
    files = pair(onnx_file, b"<net version='11'>")
    os.truncate(files["model.xml"], openvino_file.XML_MAX_BYTES + 1)
    assert "the limit is" in refused("openvino", files)


@pytest.mark.parametrize(
    ("opset", "ir_version", "message"),
    [
        (16, 8, "the model has opset 16; this onnxruntime (1.9.0) reads up to 15"),
        (15, 9, "the model has IR version 9; this onnxruntime (1.9.0) reads up to 8"),
    ],
)
def test_the_refusal_of_a_newer_model_names_both_versions(opset, ir_version, message, onnx_file):
    with pytest.raises(MeasurementFailed) as caught:
        artifacts.refuse_incompatible("onnx", onnx_file(identity(opset, ir_version)), RUNTIME)
    assert (caught.value.kind, str(caught.value)) == ("incompatible_artifact", message)


def test_a_compatible_model_passes(onnx_file):
    artifacts.refuse_incompatible("onnx", onnx_file(identity(15, 8)), RUNTIME)
    artifacts.refuse_incompatible(
        "onnx", onnx_file(identity(99, 99)), RUNTIME._replace(max_opset=None, max_ir_version=None)
    )


def test_a_kind_that_the_runtime_does_not_accept_is_refused(onnx_file):
    with pytest.raises(MeasurementFailed, match="accepts onnx, but this is tflite"):
        artifacts.refuse_incompatible("tflite", onnx_file(tflite(), "model.tflite"), RUNTIME)


def test_a_runtime_for_any_artifact_gets_the_file_unchecked():
    artifacts.refuse_incompatible("onnx", {"model.onnx": "/nowhere"}, RUNTIME._replace(artifacts=(ANY_ARTIFACT,)))


def test_a_missing_runtime_is_runtime_unavailable():
    with pytest.raises(MeasurementFailed, match="no such library") as caught:
        artifacts.refuse_incompatible("onnx", {}, RUNTIME._replace(available=False, reason="no such library"))
    assert caught.value.kind == "runtime_unavailable"


def test_the_suffix_decides_the_kind():
    assert artifacts.model_files("a/b.xml") == {"model.xml": "a/b.xml", "model.bin": "a/b.bin"}
    assert artifacts.model_files("a/b.tflite") == {"model.tflite": "a/b.tflite"}
    assert artifacts.model_files("a/blob") == {"model.onnx": "a/blob"}
