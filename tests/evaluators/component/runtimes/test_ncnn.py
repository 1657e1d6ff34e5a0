import pathlib

import pytest

from support.ncnn_files import BIAS, BIN, PARAM, WEIGHTS, write
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.ncnn import NcnnRuntime
from vitsearch_agent.testing import RuntimeTestCase


@pytest.fixture
def library():
    return pytest.importorskip("ncnn")


class TestNcnn(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _there(self, library):
        pass

    def make_runtime(self):
        return NcnnRuntime()

    def make_model(self, folder):
        return write(pathlib.Path(folder))

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, 3, 2, 2), "float32")


def load(path, batch=None, **options):
    runtime = NcnnRuntime()
    return runtime.load(path, runtime.check_options(options), 1, batch, {})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_batch_is_one_pass_for_each_image(library, tmp_path, precision):
    numpy = pytest.importorskip("numpy")
    session = load(write(tmp_path), batch=3, precision=precision)
    images = numpy.arange(36, dtype="float32").reshape(3, 3, 2, 2) / 8
    expected = images.reshape(3, 12) @ numpy.reshape(WEIGHTS, (2, 12)).T + BIAS
    for _ in range(2):
        assert numpy.allclose(session.infer(images), expected, rtol=2e-3)
        session.run()
    assert session.shapes == {"in0": (3, 3, 2, 2)}


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 3, 4, 4), "float32"), ((2, 3, 2, 2), "float32"), ((1, 3, 2, 2), "float64")],
)
def test_other_images_are_refused(library, tmp_path, shape, dtype):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(MeasurementFailed, match="does not accept the images: .* expected"):
        load(write(tmp_path)).infer(numpy.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("7767517", "7767518", "no text of layers"),
        ("2 2\n", "9 2\n", "2 lines for 9 layers"),
        ("InnerProduct  ", "torch.unbind  ", "'torch.unbind' is no layer of ncnn"),
        ("1 1 in0 out0", "1 1 in1 out0", "line 4 of the layers: its inputs and outputs"),
        ("1 1 in0 out0", "1 1 in0 in0", "line 4 of the layers: its inputs and outputs"),
        ("1 1 in0 out0", "1 1 in0 out1", "and the output out0"),
        ("2=24", "2=/etc/passwd", "its settings are no numbers"),
        ("0=2 1=2 2=3", "", "the input has no size"),
        ("0=2 1=2 2=3", "0=2 1=2 2=99999999", "its settings are no numbers|the input has no size"),
        ("linear_0", "l\u00e9", "no text of layers"),
    ],
)
def test_a_damaged_text_is_refused_before_the_library_sees_it(tmp_path, old, new, words):
    path = write(tmp_path)
    assert old in PARAM
    (tmp_path / "model.param").write_text(PARAM.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(MeasurementFailed, match=words) as caught:
        load(path)
    assert caught.value.kind == "incompatible_artifact"


def test_weights_that_were_cut_off_are_refused(library, tmp_path):
    path = write(tmp_path)
    (tmp_path / "model.bin").write_bytes(BIN[:40])
    with pytest.raises(MeasurementFailed, match="ncnn rejects the model"):
        load(path)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(MeasurementFailed, match="the file of weights is empty"):
        load(path)
