import itertools

import pytest

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child.measured_model import make_measured_model
from vitsearch_agent.measure.child.peaks import GEMM_SIZE, PRECISIONS, copy, gemm, gemm_model, repeated
from vitsearch_agent.measure.child.timed_loop import Clocks
from vitsearch_agent.runtimes.noop import NoopRuntime
from vitsearch_agent.testing import ManualTime
from vitsearch_agent.wire.protocol import PEAKS

BRIEF = PEAKS._replace(min_s=0.01)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_model_computes_one_matrix_product(precision):
    numpy = pytest.importorskip("numpy")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    content = gemm_model(precision)
    onnx.checker.check_model(onnx.load_from_string(content))
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    dtype = {"fp32": "float32", "fp16": "float16", "int8": "uint8"}[precision]
    image = numpy.random.RandomState(0).randint(0, 9, (1, GEMM_SIZE, GEMM_SIZE)).astype(dtype)
    (product,) = session.run(None, {"image": image})
    weight = 1.0 if precision == "int8" else 1 / GEMM_SIZE
    sums = image.astype("float64").sum(axis=2, keepdims=True) * weight
    assert product.shape == (1, GEMM_SIZE, GEMM_SIZE)
    assert numpy.abs(product - sums).max() < 0.01


@pytest.mark.parametrize(("seconds", "n"), [(0.0, 5), (21.0, 8)])
def test_rates_are_work_per_time(seconds, n):
    time = ManualTime()
    took = itertools.cycle([1.0, 4.0, 2.0, 4.0])
    rate = repeated(lambda: time.sleep(next(took)), 8.0, seconds, Clocks(wall=time.clock))
    assert (rate.best, rate.n) == (8.0, n)
    assert rate.median == {5: 4.0, 8: 8 / 3}[n]


def test_a_clock_that_does_not_advance_is_a_failure():
    with pytest.raises(MeasurementFailed, match="does not advance"):
        repeated(lambda: None, 1.0, 0.0, Clocks(wall=lambda: 5.0))


def test_copying_memory_has_a_rate():
    report = copy(BRIEF)
    assert report.rate.best >= report.rate.median > 1e6
    assert report.rate.n >= 5


def test_a_runtime_without_outputs_is_refused():
    with pytest.raises(MeasurementFailed, match="noop gives no outputs"):
        gemm(make_measured_model(NoopRuntime(), "gemm.onnx", {}, BRIEF), "fp32")
