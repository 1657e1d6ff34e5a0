"""The outputs of a model that is no classifier, whatever it gives."""

import pytest

from support.bundles import embedding_files, manifest_of, saved, write_bundle
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED
from vitsearch_agent.verify.model_runner import ModelRunner
from vitsearch_agent.verify.verify import VerifyOptions, verify

numpy = pytest.importorskip("numpy")


class Gives(ModelRunner):
    """Gives these outputs, or raises this error."""

    def __init__(self, outputs):
        self.values = outputs

    def outputs(self, chunk):
        if isinstance(self.values, Exception):
            raise self.values
        return self.values[chunk.rows]

    def measure(self):
        raise AssertionError("nothing is measured")


@pytest.fixture
def judged(tmp_path):
    """judged(kind of task, outputs now, outputs shipped) -> the checks after that of the files, by name."""

    def judged(kind, outputs, shipped=None, **changes):
        files = embedding_files()
        if shipped is not None:
            files["images/outputs.npy"] = saved(shipped)
        folder = write_bundle(tmp_path, manifest_of(kind, **changes), files)
        report = verify(folder, lambda bundle: Gives(outputs), VerifyOptions(measures=False))
        return {check.name: check for check in report.checks[1:]}

    return judged


@pytest.mark.parametrize("kind", ["embedding", "depth"])
@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_outputs_that_are_no_numbers_fail_and_nothing_else_is_judged(judged, kind, value):
    outputs = numpy.ones((4, 4), "f4")
    outputs[1, 2] = outputs[3, 0] = value
    checks = judged(kind, outputs)
    assert list(checks) == ["outputs"]
    assert checks["outputs"] == ("outputs", FAILED, "NaN or infinity among the outputs of 2 of 4 images")


def test_embeddings_of_zeros_are_unlike_all(judged):
    checks = judged("embedding", numpy.zeros((4, 4), "f4"))
    assert [check.outcome for check in checks.values()] == [FAILED, FAILED, PASSED]


def test_outputs_of_zeros_are_those_shipped_if_these_are_zeros(judged):
    zeros = numpy.zeros((4, 2, 3), "f4")
    assert judged("depth", zeros, zeros)["outputs"].outcome == PASSED
    assert judged("depth", zeros + 1e-30, zeros)["outputs"].outcome == FAILED


@pytest.mark.parametrize("kind", ["embedding", "depth"])
def test_a_model_that_does_not_run_fails_with_the_reason(judged, kind):
    check = judged(kind, MeasurementFailed("crash", "it does not run"))["outputs"]
    assert check == ("outputs", FAILED, "crash: it does not run")
    check = judged(kind, MeasurementFailed("runtime_unavailable", "it is missing"))["outputs"]
    assert check.outcome == NOT_JUDGED


def test_a_runtime_that_reports_no_outputs_judges_none(judged):
    checks = judged("embedding", None, runtime="trtexec", options={"precision": "fp16"})
    assert checks["outputs"] == ("outputs", NOT_JUDGED, "trtexec reports no outputs")
