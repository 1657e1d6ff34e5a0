"""The check whether a runtime is available."""

from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.runtime_check import check_runtime


def test_known_and_unknown_runtimes_are_checked_in_a_child(tmp_path):
    job_folder = JobFolder(str(tmp_path), StopSignal())
    assert check_runtime("noop", job_folder).available
    unknown = check_runtime("nope", job_folder)
    assert not unknown.available
    assert "unknown" in unknown.reason
