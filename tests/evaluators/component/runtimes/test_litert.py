import os

import pytest

from vitsearch_agent.base.tflite_writer import CONVOLUTION, DEPTHWISE, PRODUCT, Operator, Tensor, model
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.litert import LiteRtRuntime
from vitsearch_agent.testing import RuntimeTestCase


@pytest.fixture
def write_tflite(tmp_path):
    """write_tflite(folder, batch, signature) -> path of one fully connected layer from 8 to 4; -1: an open size."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    numpy = pytest.importorskip("numpy")

    def tensor(name, shape, buffer, signature=None):
        built = schema.TensorT()
        built.name, built.shape, built.buffer, built.shapeSignature = name, shape, buffer, signature
        built.type = schema.TensorType.FLOAT32
        return built

    def write(folder=tmp_path, batch=None, signature=(-1, 8)):
        model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
        code, layer = schema.OperatorCodeT(), schema.FullyConnectedOptionsT()
        empty, weights = schema.BufferT(), schema.BufferT()
        weights.data = numpy.ones((4, 8), dtype="float32").view("uint8").flatten()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, -1], [2]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = layer
        size, is_open = batch or 1, batch is None
        graph.tensors = [
            tensor("image", [size, 8], 0, list(signature) if is_open else None),
            tensor("weight", [4, 8], 1),
            tensor("logits", [size, 4], 0, [-1, 4] if is_open else None),
        ]
        graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [empty, weights]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        path = os.path.join(str(folder), "model.tflite")
        with open(path, "wb") as stream:
            stream.write(bytes(builder.Output()))
        return path

    return write


class TestLiteRt(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _model(self, write_tflite):
        self.make_model = write_tflite

    def make_runtime(self):
        return LiteRtRuntime()

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, 8), "float32")

    def make_options(self):
        return {"delegate": "none"}


def load(path, batch=None, shapes=None, **options):
    runtime = LiteRtRuntime()
    return runtime.load(path, runtime.check_options(options), 1, batch, shapes or {})


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_an_open_batch_takes_the_batch_of_the_protocol(write_tflite, delegate):
    session = load(write_tflite(), batch=3, delegate=delegate)
    session.run()
    (output,) = session._interpreter.get_output_details()
    assert session._interpreter.get_tensor(output["index"]).shape == (3, 4)


def test_a_fixed_batch_is_the_batch_and_no_other_is_accepted(write_tflite):
    session = load(write_tflite(batch=2))
    session.run()
    assert (session.batch, session.shapes) == (2, {"image": (2, 8)})
    with pytest.raises(MeasurementFailed, match="the model fixes batch 2 .*, but batch 1 was requested") as caught:
        load(write_tflite(batch=2), batch=1)
    assert caught.value.kind == "incompatible_artifact"


def test_an_open_dimension_other_than_the_batch_needs_a_shape(write_tflite):
    path = write_tflite(signature=[-1, -1])
    with pytest.raises(MeasurementFailed, match="give, for example, --shape image=1,224$"):
        load(path)
    assert load(path, shapes={"image": (3, 8)}).shapes == {"image": (3, 8)}


def test_shapes_that_the_model_cannot_compute_are_an_incompatible_artifact(write_tflite):
    with pytest.raises(MeasurementFailed, match="litert .* the model: ") as caught:
        load(write_tflite(signature=[-1, -1]), shapes={"image": (1, 5)}).run()
    assert caught.value.kind == "incompatible_artifact"


def test_what_the_agent_writes_computes_what_its_weights_say(tmp_path):
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("ai_edge_litert")
    draw = numpy.random.default_rng(0)
    depth, point, weight = (draw.normal(size=shape).astype("<f4") for shape in ((1, 3, 3, 4), (4, 1, 1, 4), (3, 100)))
    zero = numpy.zeros(4, "<f4")
    tensors = [Tensor("image", (1, 5, 5, 4)), Tensor("depth", depth.shape, depth.tobytes())]
    tensors += [Tensor("zero", (4,), zero.tobytes()), Tensor("spread", (1, 5, 5, 4))]
    tensors += [Tensor("point", point.shape, point.tobytes()), Tensor("mixed", (1, 5, 5, 4))]
    tensors += [Tensor("weight", weight.shape, weight.tobytes()), Tensor("logits", (1, 3))]
    operators = [
        Operator(DEPTHWISE, (0, 1, 2), 3),
        Operator(CONVOLUTION, (3, 4, 2), 5),
        Operator(PRODUCT, (5, 6, -1), 7),
    ]
    (tmp_path / "model.tflite").write_bytes(model(tensors, operators))
    runtime = LiteRtRuntime()
    session = runtime.load(str(tmp_path / "model.tflite"), runtime.check_options({}), 1, None, {})
    image = draw.normal(size=(1, 5, 5, 4)).astype("float32")
    padded = numpy.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    spread = sum(padded[:, i : i + 5, j : j + 5] * depth[:, i : i + 1, j : j + 1] for i in range(3) for j in range(3))
    mixed = numpy.maximum(numpy.maximum(spread, 0) @ point[:, 0, 0].T, 0)
    expected = numpy.maximum(mixed.reshape(1, 100) @ weight.T, 0)
    assert numpy.abs(session.infer(image) - expected).max() < 1e-4
