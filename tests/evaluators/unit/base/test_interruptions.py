import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch_evaluators.base.interruptions import AGENT, FROM_OUTSIDE, OWN_DEATHS_MAX, verdict


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL"])
def test_the_same_crash_twice_is_the_artifact_s_own(signal):
    assert verdict([signal], 3) is None
    failure = verdict([signal, AGENT, signal], 3)
    assert failure.kind == "crash"
    assert failure.details == {"kind": "crash", "signal": signal, "deaths": [signal, AGENT, signal]}
    assert not failure.transient


def test_crashes_by_ever_other_signals_end_too():
    signals = ["SIGSEGV", "SIGABRT", "SIGBUS"]
    assert OWN_DEATHS_MAX == 3
    assert [verdict(signals[:count], 9) is None for count in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("death", FROM_OUTSIDE)
def test_what_came_from_outside_is_bounded_and_no_crash(death):
    assert verdict([death] * 4, 5) is None
    failure = verdict([death] * 5, 5)
    assert failure.kind == "interrupted"
    assert death in str(failure)


def test_a_crash_does_not_count_as_an_interruption():
    assert verdict([AGENT, "SIGSEGV", "SIGKILL"], 3) is None
    assert verdict([AGENT, "SIGSEGV", "SIGKILL", AGENT], 3).kind == "interrupted"


@given(st.lists(st.sampled_from([*FROM_OUTSIDE, "SIGSEGV", "SIGABRT", "SIGBUS"]), max_size=12), st.integers(1, 5))
def test_every_job_comes_to_an_end_and_a_verdict_is_never_taken_back(deaths, interruptions_max):
    decided = [verdict(deaths[:count], interruptions_max) is not None for count in range(len(deaths) + 1)]
    assert decided == sorted(decided)
    assert decided[-1] or len(deaths) < OWN_DEATHS_MAX + interruptions_max
