import threading

import pytest

from vitsearch_agent.client import retry as retry_module
from vitsearch_agent.client.retry import Backoff, RetryPolicy
from vitsearch_agent.errors import DeviceBusy, DeviceUnreachable, JobCancelled


@pytest.fixture
def time(monkeypatch):
    """A clock that moves only in `sleep`, and records the sleeps."""

    class FakeTime:
        now_s = 0.0
        sleeps = []

        def monotonic(self):
            return self.now_s

        def sleep(self, seconds):
            self.sleeps.append(seconds)
            self.now_s += seconds

    fake = FakeTime()
    fake.sleeps = []
    monkeypatch.setattr(retry_module, "time", fake)
    return fake


def test_waits_grow_up_to_a_limit_and_are_shortened_at_random(time):
    retry_policy = RetryPolicy(Backoff(1.0, 8.0), 1e9, None)
    for _ in range(30):
        retry_policy.wait(DeviceBusy("busy"))
    for index, seconds in enumerate(time.sleeps):
        longest = min(8.0, 2.0 ** (index + 1))
        assert longest / 2 <= seconds <= longest
    assert len(set(time.sleeps)) > 20


def test_the_deadline_counts_silence_only(time):
    retry_policy = RetryPolicy(Backoff(1.0, 8.0), 30.0, None)
    for _ in range(20):
        retry_policy.wait(DeviceUnreachable("gone"))
        retry_policy.answered()
    time.now_s += 31.0
    with pytest.raises(DeviceUnreachable, match=r"gone \(gave up after 31 s"):
        retry_policy.wait(DeviceUnreachable("gone"))


def test_the_first_wait_may_be_skipped_once(time):
    retry_policy = RetryPolicy(Backoff(1.0, 8.0), 30.0, None)
    retry_policy.wait(DeviceBusy("busy"), first_at_once=True)
    assert time.sleeps == []
    retry_policy.wait(DeviceBusy("busy"), first_at_once=True)
    assert len(time.sleeps) == 1


def test_on_trouble_gets_each_error_and_none_at_the_end(time):
    reported = []
    retry_policy = RetryPolicy(Backoff(1.0, 8.0), 30.0, None, reported.append)
    retry_policy.answered()
    gone, busy = DeviceUnreachable("gone"), DeviceBusy("busy")
    retry_policy.wait(gone)
    retry_policy.wait(busy)
    retry_policy.answered()
    retry_policy.answered()
    assert reported == [gone, busy, None]


def test_the_first_removed_cause_is_not_reported(time):
    reported = []
    RetryPolicy(Backoff(1.0, 8.0), 30.0, None, reported.append).wait(DeviceBusy("no such model"), first_at_once=True)
    assert reported == []


def test_the_first_removed_cause_after_trouble_ends_the_trouble(time):
    reported = []
    retry_policy = RetryPolicy(Backoff(1.0, 8.0), 30.0, None, reported.append)
    gone, missing = DeviceUnreachable("gone"), DeviceBusy("no such model")
    for error in (gone, missing, missing):
        retry_policy.wait(error, first_at_once=error is missing)
    assert reported == [gone, None, missing]


def test_renewed_starts_with_the_full_deadline(time):
    retry_policy = RetryPolicy(Backoff(1.0, 8.0), 30.0, None)
    time.now_s += 31.0
    retry_policy.renewed().wait(DeviceBusy("busy"))
    with pytest.raises(DeviceBusy):
        retry_policy.wait(DeviceBusy("busy"))


def test_cancelling_ends_the_wait():
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(JobCancelled):
        RetryPolicy(Backoff(600.0, 600.0), 1e9, cancel).wait(DeviceBusy("busy"))
