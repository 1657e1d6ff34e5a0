"""Files that are compiled for chips: by the real compiler where it is installed (vitsearch install-converter qnn)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.fake_converter import FakeConverter
from vitsearch.compress.quantization.quantize import quantize_for_npu
from vitsearch.errors import StageError, UnknownName
from vitsearch.export import converters, evaluate
from vitsearch.targets.onnxruntime.qnn import contexts
from vitsearch.targets.onnxruntime.qnn.chips import CHIPS, chip_of

CHIP = CHIPS["sm8650"]
WIDTH = 8


@pytest.fixture
def python() -> Path:
    if reason := converters.converter_missing(contexts.NAME):
        pytest.skip(reason)
    return contexts.installed_python()


def chain(path: Path, *operators: str) -> Path:
    """Write an ONNX file of operators in a row; a MatMul has constant weights."""
    names = ["images", *(f"t{index}" for index in range(len(operators) - 1)), "logits"]
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH
    nodes = [
        helper.make_node(kind, [names[at], "w"] if kind == "MatMul" else [names[at]], [names[at + 1]])
        for at, kind in enumerate(operators)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("images", "logits")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, WIDTH)).astype(np.float32)


@pytest.mark.long
@pytest.mark.parametrize("name", CHIPS)
def test_a_model_is_one_context_for_each_chip_and_its_emulation_gives_what_the_cpu_does(name, python, tmp_path):
    model = tmp_path / "model.onnx"
    quantize_for_npu(chain(tmp_path / "fp32.onnx", "MatMul", "Relu", "MatMul"), model, "w8a16", images(64))
    context = contexts.compiled(python, model, chip_of(name), tmp_path / f"{name}.onnx")
    assert (context.contexts, context.cpu_operators, context.is_whole) == (1, {}, True)
    assert context.npu_nodes > 3
    computed = contexts.outputs(python, context, images(3))
    np.testing.assert_allclose(computed, evaluate.logits(model, images(3), 1), atol=0.02)


@pytest.mark.long
def test_the_file_does_not_depend_on_the_place_of_the_model(python, tmp_path):
    written = []
    for name in ("first", "second"):
        (folder := tmp_path / name).mkdir()
        model = chain(folder / f"{name}.onnx", "MatMul", "Relu")
        written.append(contexts.compiled(python, model, CHIP, folder / "context.onnx").path.read_bytes())
    assert written[0] == written[1]


@pytest.mark.long
def test_operators_that_are_left_to_the_cpu_are_named_and_cut_the_model(python, tmp_path):
    model = chain(tmp_path / "model.onnx", "MatMul", "Sinh", "MatMul", "Sinh", "Cosh", "MatMul")
    context = contexts.compiled(python, model, CHIP, tmp_path / "context.onnx")
    assert context.cpu_operators == {"Sinh": 2, "Cosh": 1}
    assert (context.cpu_nodes, context.contexts, context.is_whole) == (3, 3, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context.onnx", "model.onnx"]


@pytest.mark.long
def test_a_model_of_which_the_npu_computes_nothing_is_refused(python, tmp_path):
    nothing = "the NPU of sm8650 computes nothing of model.onnx: the CPU has Sinh 1"
    with pytest.raises(StageError, match=nothing):
        contexts.compiled(python, chain(tmp_path / "model.onnx", "Sinh"), CHIP, tmp_path / "context.onnx")


@pytest.mark.long
def test_a_file_that_the_compiler_rejects_is_reported_with_its_words(python, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(StageError, match="qnn_compile compile: "):
        contexts.compiled(python, tmp_path / "model.onnx", CHIP, tmp_path / "context.onnx")


def test_a_file_that_was_written_is_not_trusted(tmp_path):
    """The compiler ended well and reports one context, but the file holds the plain model."""
    report = {"contexts": 1, "npu_nodes": 3, "cpu_operators": {}, "compiler": "onnxruntime-qnn 2.7.0"}
    copies = "model, path, answer = Path(call[4]), Path(call[5]), Path(call[-1]); path.write_bytes(model.read_bytes())"
    body = f"{copies}; answer.write_text({json.dumps(report)!r})"
    fake = FakeConverter(tmp_path, body, contexts.NAME)
    with pytest.raises(StageError, match="context.onnx holds nothing for the NPU: every operator is left to the CPU"):
        contexts.compiled(fake.python, chain(tmp_path / "model.onnx", "MatMul"), CHIP, tmp_path / "context.onnx")


def test_without_the_compiler_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(converters.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(StageError, match="the qnn converter is not installed; run: vitsearch install-converter qnn"):
        contexts.installed_python()


def test_a_chip_that_is_not_listed_is_refused_with_the_list():
    with pytest.raises(UnknownName, match=r"did you mean 'sm8650'\? Known: qcm6490, qcs9100, sm8350"):
        chip_of("sm8651")
