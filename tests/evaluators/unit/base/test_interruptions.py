import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch_agent.base.interruptions import AGENT, CRASHES_MAX, FROM_OUTSIDE, verdict


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL"])
def test_the_second_crash_by_one_signal_fails_the_job(signal):
    assert verdict([signal], 3) is None
    failure = verdict([signal, AGENT, signal], 3)
    assert failure.kind == "crash"
    assert failure.details == {"kind": "crash", "signal": signal, "interruptions": [signal, AGENT, signal]}
    assert not failure.transient


def test_the_third_crash_by_any_signal_fails_the_job():
    signals = ["SIGSEGV", "SIGABRT", "SIGBUS"]
    assert CRASHES_MAX == 3
    assert [verdict(signals[:count], 9) is None for count in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("cause", FROM_OUTSIDE)
def test_interruptions_from_outside_are_limited_and_are_not_a_crash(cause):
    assert verdict([cause] * 4, 5) is None
    failure = verdict([cause] * 5, 5)
    assert failure.kind == "interrupted"
    assert cause in str(failure)


def test_a_crash_does_not_count_as_an_interruption():
    assert verdict([AGENT, "SIGSEGV", "SIGKILL"], 3) is None
    assert verdict([AGENT, "SIGSEGV", "SIGKILL", AGENT], 3).kind == "interrupted"


@given(st.lists(st.sampled_from([*FROM_OUTSIDE, "SIGSEGV", "SIGABRT", "SIGBUS"]), max_size=12), st.integers(1, 5))
def test_every_job_ends_and_a_verdict_is_final(causes, interruptions_max):
    decided = [verdict(causes[:count], interruptions_max) is not None for count in range(len(causes) + 1)]
    assert decided == sorted(decided)
    assert decided[-1] or len(causes) < CRASHES_MAX + interruptions_max
