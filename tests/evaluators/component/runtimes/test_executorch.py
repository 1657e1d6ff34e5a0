import os

import pytest

from support.pte_program import PROGRAM
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.executorch import ExecuTorchRuntime
from vitsearch_agent.testing import RuntimeTestCase


@pytest.fixture
def write_program(tmp_path):
    """write_program(folder) -> path of a LayerNorm and a linear layer from 8 to 4."""
    pytest.importorskip("executorch")

    def write(folder=tmp_path):
        path = os.path.join(str(folder), "model.pte")
        with open(path, "wb") as stream:
            stream.write(PROGRAM)
        return path

    return write


class TestExecuTorch(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _model(self, write_program):
        self.make_model = write_program

    def make_runtime(self):
        return ExecuTorchRuntime()

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, 8), "float32")


def load(path, batch=None, threads=1):
    runtime = ExecuTorchRuntime()
    return runtime.load(path, runtime.check_options({}), threads, batch, {})


def test_a_program_computes_what_its_weights_say_however_often_it_ran(write_program):
    numpy = pytest.importorskip("numpy")
    session = load(write_program())
    images = numpy.arange(8, dtype="float32").reshape(1, 8) ** 2
    normed = (images - images.mean()) / numpy.sqrt(images.var() + 1e-5)
    expected = normed @ (numpy.arange(32, dtype="float32").reshape(4, 8) / 32).T + numpy.arange(4)
    for _ in range(3):
        assert numpy.abs(session.infer(images) - expected).max() < 1e-5
        session.run()


def test_what_a_run_calls_is_reported(write_program):
    assert load(write_program()).reported_options == {"delegate_calls": 1, "kernel_calls": 1}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_pool_has_the_threads_of_the_protocol(write_program, threads):
    library = pytest.importorskip("executorch.extension.pybindings._C")
    load(write_program(), threads=threads).run()
    assert library._threadpool_get_thread_count() == threads


def test_a_fixed_batch_takes_no_other(write_program):
    with pytest.raises(MeasurementFailed, match="the model fixes batch 1 .*, but batch 2 was requested") as caught:
        load(write_program(), batch=2)
    assert caught.value.kind == "incompatible_artifact"


@pytest.mark.parametrize(("shape", "dtype"), [((1, 4), "float32"), ((2, 8), "float32"), ((1, 8), "float64")])
def test_other_images_are_refused(write_program, shape, dtype):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(MeasurementFailed, match="does not accept the images: .* expected"):
        load(write_program()).infer(numpy.zeros(shape, dtype))


def test_a_truncated_program_is_refused_before_the_library_sees_it(tmp_path):
    (tmp_path / "model.pte").write_bytes(PROGRAM[:-100])
    with pytest.raises(MeasurementFailed, match="not an ExecuTorch program: it was cut off"):
        load(str(tmp_path / "model.pte"))


def test_an_operator_that_the_library_lacks_is_an_incompatible_artifact(write_program, tmp_path):
    path = write_program()
    with open(path, "wb") as stream:
        stream.write(PROGRAM.replace(b"native_layer_norm", b"native_layer_warm"))
    with pytest.raises(MeasurementFailed, match="executorch rejects the model: ") as caught:
        load(path)
    assert caught.value.kind == "incompatible_artifact"
