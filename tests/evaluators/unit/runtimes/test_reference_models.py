import pytest

from vitsearch_agent.runtimes import create, reference_models

numpy = pytest.importorskip("numpy")
FILES = {"products": reference_models.products, "convolutions": reference_models.convolutions}


@pytest.fixture(params=FILES)
def content(request):
    return FILES[request.param]()


def test_the_files_are_small_and_valid_onnx_of_an_old_version(content):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (7, 13)
    assert len(content) < 10_000


def test_the_values_neither_vanish_nor_overflow(content):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    (logits,) = session.run(None, {"image": numpy.ones(image.shape, dtype="float32")})
    assert numpy.isfinite(logits).all()
    assert 1e-3 < abs(logits).max() < 1e6


def test_the_matrices_of_a_chain_are_not_merged_into_one():
    """Otherwise 16 MB of weights would be 0.7 MB, and the model would not notice a neighbour that uses the memory."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(reference_models.products())
    fills = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    values = {onnx.numpy_helper.to_array(node.attribute[0].t).item() for node in fills}
    assert len(values) == len(fills) == 24


def test_onnxruntime_runs_them_beside_a_model_on_the_processor_only(tmp_path):
    pytest.importorskip("onnxruntime")
    runtime = create("onnxruntime")
    reference = runtime.reference(runtime.check_options({"graph_optimization_level": "basic"}))
    assert reference.options == runtime.check_options({}), "the same for every model"
    for path in reference_models.write(str(tmp_path)):
        reference.runtime.load(path, reference.options, threads=1, batch=1, shapes={}).run()
    assert runtime.reference(runtime.check_options({"provider": "CUDAExecutionProvider"})) is None


@pytest.mark.parametrize("is_installed", [True, False])
def test_onnxruntime_runs_them_beside_a_model_of_litert_where_it_is_installed(monkeypatch, is_installed):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if is_installed else None)
    runtime = create("litert")
    reference = runtime.reference(runtime.check_options({}))
    assert (reference and reference.runtime.name) == ("onnxruntime" if is_installed else None)


def test_a_runtime_that_computes_nothing_runs_no_references():
    runtime = create("noop")
    assert runtime.reference(runtime.check_options({})) is None
