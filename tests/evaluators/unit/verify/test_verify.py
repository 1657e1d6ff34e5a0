"""A figure that fails is measured again: what is slower is slower every time."""

from collections import namedtuple

import pytest

from support.bundles import image_files, manifest, write_bundle
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.verify import verify as verifying
from vitsearch_agent.verify.bundle import read
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED, Check
from vitsearch_agent.verify.model_runner import DeviceRunner, Measured, ModelRunner
from vitsearch_agent.verify.verify import ONLY_CHECKSUMS, Report, VerifyOptions, verify

Measurement = namedtuple("Measurement", "number flags")


class Measures(ModelRunner):
    """Fails to classify; measures as often as it is asked. The measurements with these numbers are disturbed."""

    def __init__(self, disturbed=()):
        self.measured = 0
        self.disturbed = disturbed

    def outputs(self, chunk):
        raise AssertionError("the bundle has no images")

    def measure(self):
        self.measured += 1
        return Measured(Measurement(self.measured, ("contended",) if self.measured in self.disturbed else ()), {})


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "tiny", manifest(images=None))


@pytest.mark.parametrize(("good_at", "outcome", "measured"), [(1, PASSED, 1), (3, PASSED, 3), (9, FAILED, 3)])
def test_a_failing_figure_is_measured_three_times(folder, monkeypatch, good_at, outcome, measured):
    monkeypatch.setattr(verifying.checks, "figures", judging(good_at))
    runner = Measures()
    report = verify(folder, lambda bundle: runner, VerifyOptions())
    assert report.checks[-1].outcome == outcome
    assert runner.measured == measured


def judging(good_at):
    def judged(now, shipped, prefix=""):
        if now.measurement.flags:
            return [Check("cpu_ms_p50", NOT_JUDGED, "")]
        return [Check("cpu_ms_p50", PASSED if now.measurement.number >= good_at else FAILED, "")]

    return judged


@pytest.mark.parametrize(("disturbed", "outcome"), [((3,), FAILED), ((1, 2), PASSED), ((1, 2, 3), NOT_JUDGED)])
def test_the_last_measurement_that_was_not_disturbed_counts(folder, monkeypatch, disturbed, outcome):
    monkeypatch.setattr(verifying.checks, "figures", judging(good_at=3))
    report = verify(folder, lambda bundle: Measures(disturbed), VerifyOptions())
    assert report.checks[-1].outcome == outcome


class Refuses(Measures):
    """Neither classifies nor measures, for a kind of reason."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def measure(self):
        raise MeasurementFailed(self.kind, "it does not run")

    def outputs(self, chunk):
        self.measure()


@pytest.mark.parametrize("kind", ["crash", "timeout", "out_of_memory", "incompatible_artifact", "protocol"])
def test_a_model_that_does_not_run_fails_with_the_reason(folder, kind):
    report = verify(folder, lambda bundle: Refuses(kind), VerifyOptions())
    assert report.checks[-1] == ("measurement", FAILED, f"{kind}: it does not run")
    assert report.verdict == FAILED


@pytest.mark.parametrize("kind", ["runtime_unavailable", "spawn"])
def test_where_the_runtime_is_missing_only_checksums_are_judged(tmp_path, kind):
    pytest.importorskip("numpy")
    folder = write_bundle(tmp_path, manifest(), image_files())
    report = verify(folder, lambda bundle: Refuses(kind), VerifyOptions())
    reason = f"{kind}: it does not run"
    assert report.checks[1:] == (("accuracy", NOT_JUDGED, reason), ("measurement", NOT_JUDGED, reason))
    assert report.verdict == ONLY_CHECKSUMS
    assert not report.to_json()["passed"]


def test_a_runtime_that_ignores_the_model_judges_nothing(tmp_path):
    runner = Measures()
    report = verify(
        write_bundle(tmp_path, manifest(runtime="noop", options={})), lambda bundle: runner, VerifyOptions()
    )
    assert report.checks[-1] == ("measurement", NOT_JUDGED, "noop does not run the model")
    assert runner.measured == 0
    assert report.verdict == ONLY_CHECKSUMS


@pytest.mark.parametrize(
    ("accuracy", "figure", "verdict"),
    [
        (PASSED, PASSED, PASSED),
        (PASSED, NOT_JUDGED, PASSED),
        (NOT_JUDGED, PASSED, PASSED),
        (FAILED, PASSED, FAILED),
        (PASSED, FAILED, FAILED),
        (NOT_JUDGED, NOT_JUDGED, ONLY_CHECKSUMS),
    ],
)
def test_a_report_passes_only_if_more_than_the_files_was_judged(accuracy, figure, verdict):
    of_files = Check("files", PASSED, ""), Check("signature", PASSED, "")
    report = Report("tiny", (*of_files, Check("accuracy", accuracy, ""), Check("load_ms", figure, "")))
    assert report.verdict == verdict
    assert report.to_json()["passed"] is (verdict == PASSED)


def test_figures_of_another_processor_and_no_images_leave_only_checksums(folder, monkeypatch):
    unjudged = [Check("cpu_ms_p50", NOT_JUDGED, "another cpu")]
    monkeypatch.setattr(verifying.checks, "figures", lambda *arguments: unjudged)
    assert verify(folder, lambda bundle: Measures(), VerifyOptions()).verdict == ONLY_CHECKSUMS


def test_without_measurements_nothing_is_measured(folder):
    runner = Measures()
    assert len(verify(folder, lambda bundle: runner, VerifyOptions(measures=False)).checks) == 2
    assert runner.measured == 0


def test_a_baseline_that_was_changed_is_refused(folder, tmp_path):
    write_bundle(tmp_path / "old", manifest())
    (tmp_path / "old" / "labels.json").write_text("[]")
    with pytest.raises(MeasurementFailed, match="--baseline .*old: labels.json was changed"):
        verify(folder, lambda bundle: Measures(), VerifyOptions(baseline=str(tmp_path / "old")))


def test_a_baseline_whose_checksums_are_damaged_is_refused_by_its_own_name(folder, tmp_path):
    write_bundle(tmp_path / "old", manifest())
    (tmp_path / "old" / "SHA256SUMS").write_text("")
    with pytest.raises(MeasurementFailed, match="--baseline .*old: SHA256SUMS is empty"):
        verify(folder, lambda bundle: Measures(), VerifyOptions(baseline=str(tmp_path / "old")))


def test_a_runtime_that_reports_no_outputs_does_not_judge_the_accuracy(tmp_path):
    folder = write_bundle(tmp_path, manifest(runtime="trtexec", options={"precision": "fp16"}))
    check = verify(folder, lambda bundle: Measures(), VerifyOptions(measures=False)).checks[-1]
    assert check == ("accuracy", NOT_JUDGED, "trtexec reports no outputs, so it cannot classify images")


def test_a_device_measures_again_and_does_not_answer_with_what_it_has(folder):
    class Client:
        def __init__(self):
            self.repeats = []

        def measure(self, path, runtime, options, protocol, repeat):
            self.repeats.append(repeat)

        def device(self):
            return namedtuple("Info", "fingerprint restrictions")({}, ())

    client = Client()
    runner = DeviceRunner(read(str(folder)), client, 7)
    for _ in range(2):
        runner.measure()
    assert client.repeats == [7, 8]
