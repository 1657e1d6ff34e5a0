"""What the checks find in Core ML programs; those written by coremltools are in the tests of the search's exporter."""

import json
import os

import pytest

from support.artifact_files import coreml, coreml_weights, identity, tflite
from vitsearch_agent import artifacts
from vitsearch_agent.artifacts import coreml_file
from vitsearch_agent.base.onnx_writer import field, number
from vitsearch_agent.errors import MeasurementFailed


@pytest.fixture
def inspect(onnx_file):
    """inspect(program, weights) -> the facts."""

    def inspected(program, weights=None):
        weights = coreml_weights() if weights is None else weights
        files = dict(onnx_file(program, "model.mlmodel"), **onnx_file(weights, "model.bin"))
        return artifacts.inspect("coreml", files)

    return inspected


def refusal(inspect, *contents):
    with pytest.raises(MeasurementFailed) as caught:
        inspect(*contents)
    assert caught.value.kind == "incompatible_artifact"
    return str(caught.value)


def test_a_program_with_its_weights_passes(inspect):
    assert inspect(coreml()).kind == "coreml"


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd", "@model_path/../secret.bin", "@model_path/weights/../../x", "weights/weight.bin", "", "x" * 5000],
)
def test_a_constant_in_any_other_file_is_refused(inspect, file):
    assert refusal(inspect, coreml(file=file))


def test_the_refusal_of_another_file_names_it(inspect):
    message = refusal(inspect, coreml(file="/etc/passwd"))
    assert message == "a constant is in the file '/etc/passwd'; the only one allowed is @model_path/weights/weight.bin"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (coreml(operator="custom_layer"), "'custom_layer' is a custom operator"),
        (coreml(opset="com.acme"), "from the set 'com.acme', which needs an additional library"),
        (coreml(kind=555), "the model is of kind 555"),
        (coreml(kind=500), "the model is of kind 500"),
        (coreml() + field(556, b""), "the model is of kind 556"),
        (coreml(version=5), "the version of the format is 5"),
        (coreml()[:-3], "not a Core ML model"),
        (number(1, 8), "it has no program"),
        (identity(), "not a Core ML model"),
        (tflite(), "is tflite, but was sent as coreml"),
        (b"", "empty"),
    ],
)
def test_other_models_and_foreign_code_are_refused(inspect, program, message):
    assert message in refusal(inspect, program)


@pytest.mark.parametrize(
    ("program", "weights"),
    [
        (coreml(at=0), coreml_weights()),
        (coreml(at=65), coreml_weights()),
        (coreml(at=128), coreml_weights()),
        (coreml(at=2**62), coreml_weights()),
        (coreml(), coreml_weights(mark=1)),
        (coreml(), coreml_weights(size=9)),
        (coreml(), coreml_weights(offset=129)),
        (coreml(), coreml_weights(size=2**64 - 1)),
    ],
)
def test_a_constant_outside_the_weights_is_refused(inspect, program, weights):
    assert "a constant is at byte" in refusal(inspect, program, weights)


@pytest.mark.parametrize("weights", [b"x" * 64, coreml_weights(version=1), coreml_weights()[:63]])
def test_weights_of_another_format_are_refused(inspect, weights):
    assert "not a file of Core ML weights" in refusal(inspect, coreml(), weights)


def test_deep_nesting_is_refused_without_recursion(inspect):
    block = field(3, field(1, b"const"))
    for _ in range(200):
        block = field(3, field(1, b"cond") + field(4, block))
    function = field(2, b"CoreML7") + field(3, field(1, b"CoreML7") + field(2, block))
    program = number(1, 8) + field(502, field(2, field(1, b"main") + field(2, function)))
    assert "deeper than 100" in refusal(inspect, program)


def test_a_constant_deep_inside_an_argument_is_found(inspect):
    evil = field(5, field(1, b"/etc/passwd"))
    listed = field(3, field(3, field(1, evil)))
    argument = field(2, field(1, b"x") + field(2, field(1, field(2, listed))))
    block = field(3, field(1, b"add") + argument)
    function = field(2, b"CoreML7") + field(3, field(1, b"CoreML7") + field(2, block))
    program = number(1, 8) + field(502, field(2, field(1, b"main") + field(2, function)))
    assert "/etc/passwd" in refusal(inspect, program)


def test_the_suffix_decides_the_kind():
    assert artifacts.model_files("a/b.mlmodel") == {"model.mlmodel": "a/b.mlmodel", "model.bin": "a/b.bin"}


def test_a_package_has_the_files_where_its_manifest_says(tmp_path):
    for name in ("model.mlmodel", "model.bin"):
        (tmp_path / name).write_bytes(name.encode())
    package = tmp_path / "made.mlpackage"
    coreml_file.write_package(str(tmp_path / "model.mlmodel"), str(tmp_path / "model.bin"), str(package))
    manifest = json.loads((package / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    assert items[manifest["rootModelIdentifier"]]["path"] == "com.apple.CoreML/model.mlmodel"
    assert {os.path.isdir(package / "Data" / item["path"]) for item in items.values()} == {True, False}
    assert (package / "Data/com.apple.CoreML/model.mlmodel").read_bytes() == b"model.mlmodel"
    assert (package / "Data/com.apple.CoreML/weights/weight.bin").read_bytes() == b"model.bin"
