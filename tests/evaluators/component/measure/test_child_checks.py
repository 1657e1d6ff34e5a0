"""What an agent checks in a child at its start."""

import contextlib

from vitsearch_agent.measure.child_checks import check_restrictions, check_runtime
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_folder import JobFolder


def test_known_and_unknown_runtimes_are_checked_in_a_child(tmp_path):
    job_folder = JobFolder(str(tmp_path), StopSignal())
    assert check_runtime("noop", job_folder).available
    unknown = check_runtime("nope", job_folder)
    assert not unknown.available
    assert "unknown" in unknown.reason


def test_restrictions_that_cannot_be_checked_are_not_those_of_an_earlier_start(tmp_path):
    (tmp_path / "restrictions.json").write_text('{"restrictions": [{"name": "files", "holds": true, "detail": ""}]}')
    with contextlib.closing(StopSignal()) as stop:
        folder = JobFolder(str(tmp_path), stop)
        (restriction,) = check_restrictions(folder._replace(launch=folder.launch._replace(python="/bin/false")))
    assert (restriction.holds, restriction.detail[:22]) == (False, "could not be checked: ")
