import pytest

from vitsearch_agent.runtimes.ort import OrtRuntime
from vitsearch_agent.runtimes.ort_limits import find_limits


def versions(content):
    """Return the opset and IR version of a tiny model."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(content)
    return model.opset_import[0].version, model.ir_version


def test_the_newest_accepted_versions_are_found():
    limits = find_limits(lambda content: versions(content)[0] <= 17 and versions(content)[1] <= 8)
    assert (limits.max_opset, limits.max_ir_version) == (17, 8)


@pytest.mark.parametrize("answer", [True, False])
def test_versions_are_unknown_when_all_or_none_are_accepted(answer):
    limits = find_limits(lambda _content: answer)
    assert (limits.max_opset, limits.max_ir_version) == (None, None)
    assert limits.precisions == (("fp32", "fp16", "bf16", "int8") if answer else ())


def test_the_installed_onnxruntime_reads_the_found_versions_and_rejects_the_next():
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    info = OrtRuntime().with_limits(OrtRuntime().available())

    def loads(opset, ir_version):
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", ends[:1], ends[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        model.ir_version = ir_version
        try:
            runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 - its exceptions have no other common class
            return False
        return True

    assert loads(info.max_opset, info.max_ir_version)
    assert not loads(info.max_opset + 1, info.max_ir_version)
    assert not loads(info.max_opset, info.max_ir_version + 1)
    assert {"fp32", "int8"} <= set(info.precisions)
