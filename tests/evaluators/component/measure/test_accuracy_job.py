"""Accuracy jobs: a real model under onnxruntime, with a real agent where the wire matters."""

import hashlib
import os

import pytest

from vitsearch_agent import Subset
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed, NotFound
from vitsearch_agent.measure.child.accuracy import LOGITS, classify
from vitsearch_agent.measure.child.measured_model import MeasuredModel, make_measured_model
from vitsearch_agent.runtimes.base import Availability, Runtime, Session
from vitsearch_agent.runtimes.ort import OrtRuntime
from vitsearch_agent.wire.protocol import ACCURACY

numpy = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

BATCH = ACCURACY._replace(batch=4)
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
def subset(tmp_path):
    """Write a subset: subset(labels=None, images=None) -> Subset."""

    def write(labels=None, images=None):
        generator = numpy.random.RandomState(1)
        pixels = generator.standard_normal((N, 1, 2, 3)).astype("float32") if images is None else images
        truth = generator.randint(0, 5, len(pixels)) if labels is None else numpy.asarray(labels)
        folder = tmp_path / "subset"
        folder.mkdir(exist_ok=True)
        numpy.save(str(folder / "images.npy"), pixels)
        numpy.save(str(folder / "labels.npy"), truth)
        return Subset(str(folder / "images.npy"), str(folder / "labels.npy"))

    return write


def reference(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return numpy.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


@pytest.mark.parametrize("batch", [4, "batch"])
def test_every_image_is_classified_once_whatever_the_batch(classifier, subset, monkeypatch, batch):
    path = classifier(batch)
    images, labels = map(numpy.load, subset())
    monkeypatch.chdir(os.path.dirname(subset()[0]))
    report = classify(make_measured_model(OrtRuntime(), path, {}, BATCH))
    expected = reference(classifier(), images)
    logits = numpy.fromfile(LOGITS, "<f4").reshape(N, 5)
    assert numpy.allclose(logits, expected, atol=1e-6)
    assert (report.n, report.classes, report.not_finite, report.batch) == (N, 5, 0, 4)
    assert report.correct == (expected.argmax(1) == labels).sum()


class Fixed(Runtime):
    """Returns the given answers, whatever the images."""

    name = "fixed"
    gives_outputs = True

    def __init__(self, *answers):
        self.answers = list(answers)

    def available(self):
        return Availability(True, None, "1", ())

    def load(self, path, options, threads, batch, shapes):
        answers = self.answers

        class Fixed(Session):
            def run(self):
                pass

            def close(self):
                pass

            def infer(self, images):
                return answers.pop(0)

        session = Fixed()
        session.batch = batch
        return session


def judged(*answers, batch=N):
    return classify(MeasuredModel(Fixed(*answers), "1", "none", {}, BATCH._replace(batch=batch)))


def test_images_with_logits_that_are_not_finite_are_never_correct(subset, monkeypatch):
    monkeypatch.chdir(os.path.dirname(subset(labels=[0] * N)[0]))
    logits = numpy.zeros((N, 5), "float32")
    logits[:, 0] = 1
    logits[3, 0], logits[4, 2] = numpy.inf, numpy.nan
    report = judged(logits)
    assert (report.correct, report.not_finite) == (N - 2, 2)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([numpy.zeros((N, 5, 1), "float32")], "expected logits, 10 x classes, got float32 of shape \\[10, 5, 1\\]"),
        ([numpy.zeros((N, 5), "int64")], "got int64"),
        ([numpy.zeros((N, 3), "float32")], "the labels go from 0 to 4, the model has 3 classes"),
    ],
)
def test_outputs_that_do_not_fit_the_labels_are_an_incompatible_artifact(subset, monkeypatch, answers, message):
    monkeypatch.chdir(os.path.dirname(subset(labels=[0, 4] * 5)[0]))
    with pytest.raises(MeasurementFailed, match=message) as caught:
        judged(*answers)
    assert caught.value.kind == "incompatible_artifact"


def test_logits_larger_than_the_limit_are_refused(subset, monkeypatch):
    monkeypatch.chdir(os.path.dirname(subset()[0]))
    monkeypatch.setattr("vitsearch_agent.measure.child.accuracy.LOGITS_MAX_BYTES", 100)
    with pytest.raises(MeasurementFailed, match="would take 200 bytes, allowed are 100"):
        judged(numpy.zeros((N, 5), "float32"))


def test_end_to_end(client, agent, classifier, subset, tmp_path):
    path, judged_by = classifier(), subset()
    result = client.accuracy(path, judged_by, protocol=BATCH)
    expected = reference(path, numpy.load(judged_by.images))
    assert result.correct == (expected.argmax(1) == numpy.load(judged_by.labels)).sum()
    assert result.ci95_low <= result.accuracy <= result.ci95_high
    assert (result.runtime, result.runtime_version) == ("onnxruntime", onnxruntime.__version__)
    assert (result.batch, result.shapes) == (4, {"image": (4, 1, 2, 3)})
    assert result.environment_id == client.device().environment_id

    client.logits(result, str(tmp_path / "logits"))
    content = (tmp_path / "logits").read_bytes()
    assert hashlib.sha256(content).hexdigest() == result.logits_sha256
    assert numpy.allclose(numpy.frombuffer(content, "<f4").reshape(N, 5), expected, atol=1e-6)

    assert client.accuracy(path, judged_by, protocol=BATCH) == result, "the same job runs once"
    blobs = os.path.join(str(tmp_path), "state", "blobs")
    os.remove(os.path.join(blobs, result.logits_sha256))
    with pytest.raises(NotFound, match="evicted") as caught:
        client.logits(result, str(tmp_path / "again"))
    assert caught.value.details == {"reason": "evicted"}
    again = client.accuracy(path, judged_by, protocol=BATCH, repeat=1)
    assert again.logits_sha256 == result.logits_sha256
    client.logits(again, str(tmp_path / "again"))


@pytest.mark.long
def test_an_impossible_accuracy_job_is_refused_before_it_is_queued(client, classifier, subset, tiny_protocol, tmp_path):
    path, judged_by = classifier(), subset()
    with pytest.raises(InvalidRequest, match="noop gives no outputs"):
        client.accuracy(path, judged_by, "noop")
    (tmp_path / "text").write_text("no array")
    text = client.upload(str(tmp_path / "text"))
    with pytest.raises(InvalidRequest, match="images is not a .npy file"):
        client.accuracy(path, Subset(text, client.upload(judged_by.labels)))
    wide = numpy.zeros((N, 1, 2, 4), "float32")
    with pytest.raises(MeasurementFailed, match="the model does not accept the images"):
        client.accuracy(path, subset(images=wide))
    measured = client.measure(path, "onnxruntime", {}, tiny_protocol)
    with pytest.raises(NotFound, match="no logits: it is a measure job and done"):
        client.logits(client.accuracy(path, subset())._replace(job_id=measured.job_id), str(tmp_path / "none"))
