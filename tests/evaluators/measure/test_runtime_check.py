"""A runtime that is there says so; one that nobody has is named with those that there are."""

from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.job_folder import Bench
from vitsearch_evaluators.measure.runtime_check import probe_runtime


def test_runtimes_are_asked_in_a_child(tmp_path):
    bench = Bench(str(tmp_path), StopSignal())
    assert probe_runtime("noop", bench).available
    unknown = probe_runtime("nope", bench)
    assert not unknown.available
    assert "unknown" in unknown.reason
