"""Outputs jobs: a real model under onnxruntime, with a real agent where the wire matters."""

import os

import pytest

from vitsearch_agent.errors import InvalidRequest, MeasurementFailed, NotFound, TransferFailed
from vitsearch_agent.measure.child.measured_model import MeasuredModel, make_measured_model
from vitsearch_agent.measure.child.outputs import OUTPUTS as FILE
from vitsearch_agent.measure.child.outputs import run_images
from vitsearch_agent.runtimes.base import Availability, Runtime, Session
from vitsearch_agent.runtimes.ort import OrtRuntime
from vitsearch_agent.wire.protocol import OUTPUTS

numpy = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

BATCH = OUTPUTS._replace(batch=4)
N = 10


@pytest.fixture
def classifier(tmp_path):
    """Write a model of 1 x 2 x 3 images and 5 classes: classifier(batch="batch") -> path."""

    def write(batch="batch", name="classifier.onnx"):
        helper, tensor = onnx.helper, onnx.TensorProto
        weight = numpy.random.RandomState(0).standard_normal((6, 5)).astype("float32")
        graph = helper.make_graph(
            [
                helper.make_node("Flatten", ["image"], ["flat"]),
                helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
            ],
            "classifier",
            [helper.make_tensor_value_info("image", tensor.FLOAT, [batch, 1, 2, 3])],
            [helper.make_tensor_value_info("logits", tensor.FLOAT, [batch, 5])],
            [onnx.numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
        (tmp_path / name).write_bytes(model.SerializeToString())
        return str(tmp_path / name)

    return write


@pytest.fixture
def save(tmp_path):
    """Write images for the classifier: save(images=None) -> path."""

    def write(images=None):
        pixels = numpy.random.RandomState(1).standard_normal((N, 1, 2, 3)).astype("float32")
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        numpy.save(str(folder / "images.npy"), pixels if images is None else images)
        return str(folder / "images.npy")

    return write


def reference(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return numpy.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


@pytest.mark.parametrize("batch", [4, "batch"])
def test_every_image_is_run_once_whatever_the_batch(classifier, save, monkeypatch, batch):
    path, images = classifier(batch), save()
    monkeypatch.chdir(os.path.dirname(images))
    report = run_images(make_measured_model(OrtRuntime(), path, {}, BATCH), "none")
    expected = reference(classifier(), numpy.load(images))
    assert numpy.allclose(numpy.fromfile(FILE, "<f4").reshape(N, 5), expected, atol=1e-6)
    assert (report.n, report.item_shape, report.not_finite, report.batch) == (N, (5,), 0, 4)


class Fixed(Runtime):
    """Returns the given outputs, whatever the images."""

    name = "fixed"
    gives_outputs = True

    def __init__(self, *outputs):
        self.outputs = list(outputs)

    def available(self):
        return Availability(True, None, "1", ())

    def load(self, path, options, threads, batch, shapes):
        outputs = self.outputs

        class Fixed(Session):
            def run(self):
                pass

            def close(self):
                pass

            def infer(self, images):
                return outputs.pop(0)

        session = Fixed()
        session.batch = batch
        return session


@pytest.fixture
def kept(save, monkeypatch):
    """kept(reduction, outputs of each run) -> the report, and the array in the file."""
    monkeypatch.chdir(os.path.dirname(save()))

    def run(reduction, *outputs, batch=N):
        report = run_images(MeasuredModel(Fixed(*outputs), "1", "none", {}, BATCH._replace(batch=batch)), reduction)
        dtype = {"none": "<f4", "argmax_uint8": "|u1", "argmax_uint16": "<u2"}[reduction]
        return report, numpy.fromfile(FILE, dtype).reshape(report.n, *report.item_shape)

    return run


@pytest.mark.parametrize("shape", [(N,), (N, 7), (N, 3, 4), (N, 5, 4, 3), (N, 2, 2, 2, 2)])
def test_outputs_of_any_shape_are_kept_as_they_are(kept, shape):
    outputs = numpy.random.RandomState(2).standard_normal(shape).astype("float32")
    report, values = kept("none", outputs)
    assert report.item_shape == shape[1:]
    assert numpy.array_equal(values, outputs)


def test_other_real_types_become_float32(kept):
    outputs = numpy.random.RandomState(2).standard_normal((N, 7))
    assert numpy.array_equal(kept("none", outputs)[1], outputs.astype("float32"))
    assert numpy.array_equal(kept("none", outputs.astype("float16"))[1], outputs.astype("float16"))


@pytest.mark.parametrize("reduction", ["argmax_uint8", "argmax_uint16"])
@pytest.mark.parametrize("shape", [(N, 5), (N, 5, 4, 3)])
def test_an_argmax_is_that_of_the_second_axis(kept, reduction, shape):
    outputs = numpy.random.RandomState(2).standard_normal(shape).astype("float32")
    report, values = kept(reduction, outputs)
    assert numpy.array_equal(values, outputs.argmax(1))
    assert (report.item_shape, report.not_finite) == (shape[2:], 0)


@pytest.mark.parametrize(("reduction", "reserved"), [("argmax_uint8", 255), ("argmax_uint16", 65535)])
def test_what_is_not_finite_gets_the_reserved_value(kept, reduction, reserved):
    outputs = numpy.zeros((N, 5), "float32")
    outputs[:, 1] = 1
    outputs[3, 0], outputs[4, 2] = numpy.inf, numpy.nan
    report, values = kept(reduction, outputs)
    assert values.tolist() == [1, 1, 1, reserved, reserved, 1, 1, 1, 1, 1]
    assert report.not_finite == 2


def test_an_image_with_several_places_that_are_not_finite_counts_once(kept):
    outputs = numpy.zeros((N, 5, 2, 2), "float32")
    outputs[3, :, 0, 0], outputs[3, 1, 1, 1] = numpy.nan, numpy.inf
    report, values = kept("argmax_uint8", outputs)
    assert report.not_finite == 1
    assert (values == 255).sum() == 2
    assert kept("none", outputs)[0].not_finite == 1


def test_the_largest_number_of_classes_is_that_of_the_type(kept):
    outputs = numpy.zeros((N, 255), "float32")
    outputs[:, 254] = 1
    assert (kept("argmax_uint8", outputs)[1] == 254).all()
    wide = numpy.zeros((N, 256), "float32")
    wide[:, 255] = 1
    assert (kept("argmax_uint16", wide)[1] == 255).all()
    with pytest.raises(MeasurementFailed, match="argmax_uint8 has room for 255 classes, the model has 256") as caught:
        kept("argmax_uint8", wide)
    assert caught.value.kind == "incompatible_artifact"
    with pytest.raises(MeasurementFailed, match="argmax_uint16 has room for 65535 classes, the model has 65536"):
        kept("argmax_uint16", numpy.zeros((N, 65536), "float32"))


@pytest.mark.parametrize(
    ("reduction", "outputs", "message"),
    [
        ("none", numpy.zeros((N, 5), "int64"), r"expected real numbers for each of 10 images, got int64 of shape \[10"),
        ("none", numpy.zeros((9, 5), "float32"), r"got float32 of shape \[9, 5\]"),
        ("none", numpy.zeros((N, 0), "float32"), r"got float32 of shape \[10, 0\]"),
        ("none", numpy.float32(1), r"got float32 of shape \[\]"),
        ("none", numpy.zeros((N, *[1] * 9), "float32"), "too many axes"),
        ("argmax_uint8", numpy.zeros(N, "float32"), "argmax_uint8 needs classes, the model gives one number"),
    ],
)
def test_outputs_that_cannot_be_kept_are_an_incompatible_artifact(kept, reduction, outputs, message):
    with pytest.raises(MeasurementFailed, match=message) as caught:
        kept(reduction, outputs)
    assert caught.value.kind == "incompatible_artifact"


def test_outputs_that_change_their_shape_are_refused(kept):
    with pytest.raises(MeasurementFailed, match=r"outputs of shape \[3\], then \[4\]"):
        kept("none", numpy.zeros((5, 3), "float32"), numpy.zeros((5, 4), "float32"), batch=5)


def test_outputs_larger_than_the_limit_are_refused(kept, monkeypatch):
    monkeypatch.setattr("vitsearch_agent.measure.child.outputs.OUTPUTS_MAX_BYTES", 100)
    with pytest.raises(MeasurementFailed, match="would take 200 bytes, allowed are 100: send fewer images"):
        kept("none", numpy.zeros((N, 5), "float32"))
    assert kept("argmax_uint8", numpy.zeros((N, 5), "float32"))[0].n == N


def test_end_to_end(client, agent, classifier, save, tmp_path):
    path, images = classifier(), save()
    result = client.outputs(path, images, protocol=BATCH)
    expected = reference(path, numpy.load(images))
    assert (result.runtime, result.runtime_version) == ("onnxruntime", onnxruntime.__version__)
    assert (result.batch, result.shapes, result.shape) == (4, {"image": (4, 1, 2, 3)}, (N, 5))
    assert result.environment_id == client.device().environment_id

    client.fetch_outputs(result, str(tmp_path / "outputs.npy"))
    assert numpy.allclose(numpy.load(str(tmp_path / "outputs.npy")), expected, atol=1e-6)
    assert os.listdir(str(tmp_path)).count("outputs.npy.part") == 0

    classes = client.outputs(path, images, "argmax_uint16", protocol=BATCH)
    assert classes.job_id != result.job_id
    client.fetch_outputs(classes, str(tmp_path / "classes.npy"))
    assert numpy.load(str(tmp_path / "classes.npy")).tolist() == expected.argmax(1).tolist()

    assert client.outputs(path, images, protocol=BATCH) == result, "the same job runs once"
    blobs = os.path.join(str(tmp_path), "state", "blobs")
    os.remove(os.path.join(blobs, result.parts[0].sha256))
    with pytest.raises(NotFound, match="evicted") as caught:
        client.fetch_outputs(result, str(tmp_path / "again"))
    assert caught.value.details == {"reason": "evicted"}
    again = client.outputs(path, images, protocol=BATCH, repeat=1)
    assert again.parts == result.parts
    client.fetch_outputs(again, str(tmp_path / "again"))
    with pytest.raises(NotFound, match="has no part 1 of its outputs: they have 1"):
        client.fetch_outputs(again._replace(n=2 * N, parts=again.parts * 2), str(tmp_path / "more"))
    damaged = again._replace(parts=(again.parts[0]._replace(sha256="ab" * 32),))
    with pytest.raises(TransferFailed, match="has the digest"):
        client.fetch_outputs(damaged, str(tmp_path / "damaged"))
    assert not (tmp_path / "damaged").exists()


def test_outputs_of_several_parts_and_four_axes(client, save, tmp_path):
    helper, tensor = onnx.helper, onnx.TensorProto
    sizes = ["batch", 1, 256, 256]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["heat"])],
        "heat",
        [helper.make_tensor_value_info("image", tensor.FLOAT, sizes)],
        [helper.make_tensor_value_info("heat", tensor.FLOAT, sizes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    (tmp_path / "heat.onnx").write_bytes(model.SerializeToString())
    images = numpy.random.RandomState(3).standard_normal((33, 1, 256, 256)).astype("float32")
    result = client.outputs(str(tmp_path / "heat.onnx"), save(images), protocol=BATCH)
    assert [part.size for part in result.parts] == [8 << 20, 256 << 10]
    client.fetch_outputs(result, str(tmp_path / "heat.npy"))
    assert numpy.array_equal(numpy.load(str(tmp_path / "heat.npy")), -images)
    (tmp_path / "part").write_bytes((tmp_path / "heat.npy").read_bytes()[: 9 << 19])
    (tmp_path / "part").rename(tmp_path / "again.npy.part")
    client.fetch_outputs(result, str(tmp_path / "again.npy"))
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "heat.npy").read_bytes()


@pytest.mark.long
def test_an_impossible_outputs_job_is_refused_before_it_is_queued(client, classifier, save, tiny_protocol, tmp_path):
    path, images = classifier(), save()
    with pytest.raises(InvalidRequest, match="noop gives no outputs"):
        client.outputs(path, images, runtime="noop")
    with pytest.raises(InvalidRequest, match="'sum' is not one of none, argmax_uint8, argmax_uint16"):
        client.outputs(path, images, "sum")
    (tmp_path / "text").write_text("no array")
    text = client.upload(str(tmp_path / "text"))
    with pytest.raises(InvalidRequest, match="images is not a .npy file"):
        client.outputs(path, text)
    with pytest.raises(MeasurementFailed, match="the model does not accept the images"):
        client.outputs(path, save(numpy.zeros((N, 1, 2, 4), "float32")))
    measured = client.measure(path, "onnxruntime", {}, tiny_protocol)
    with pytest.raises(NotFound, match="no outputs: it is a measure job and done"):
        client.fetch_outputs(client.outputs(path, save())._replace(job_id=measured.job_id), str(tmp_path / "none"))


def test_a_model_and_images_that_do_not_fit_together_are_refused_at_once(serve_agent, classifier, save):
    """They evicted each other until the client gave up."""
    path = classifier()
    model = onnx.load(path)
    model.doc_string = "x" * 600_000
    onnx.save(model, path)
    images = save(numpy.zeros((25_000, 1, 2, 3), "float32"))
    served = serve_agent(config={"limits": {"max_blob_mb": 1, "quota_mb": 1}})
    with served.client(deadline_s=5.0) as client, pytest.raises(TransferFailed, match="at most 1000000") as caught:
        client.outputs(path, images)
    assert caught.value.reason == "too_large"
