"""A runtime that is there says so; one that nobody has is named with those that there are."""

from vitsearch_evaluators.bench import Bench
from vitsearch_evaluators.child import StopSignal
from vitsearch_evaluators.runtime_probe import probe_runtime


def test_runtimes_are_asked_in_a_child(tmp_path):
    bench = Bench(str(tmp_path), StopSignal())
    assert probe_runtime("noop", bench).available
    unknown = probe_runtime("nope", bench)
    assert not unknown.available
    assert "unknown" in unknown.reason
