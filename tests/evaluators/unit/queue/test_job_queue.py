import contextlib
import sqlite3
import subprocess
import sys
import threading

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import ArtifactMissing, JobConflict, MeasurementFailed, NotFound, TooManyRequests
from vitsearch_agent.queue import job_table
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.wire.protocol import SCREEN, BlobRef, JobSpec, Owner

LIMITS = LimitsConfig(interruptions_max=2, queued_per_owner=20)


def spec(repeat=0):
    return JobSpec("measure", (BlobRef("model.onnx", "ab" * 32, 1),), "noop", {}, SCREEN, repeat)


def name(number):
    return f"{number:064x}"


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue(str(tmp_path / "jobs.sqlite"), LIMITS)
    yield queue
    queue.close()


@pytest.fixture
def reopen(tmp_path):
    """reopen(queue): the queue after a SIGKILL and a restart of the agent; nothing is written in between."""
    with contextlib.ExitStack() as closing:

        def again(queue, limits=LIMITS):
            queue.close()
            opened = JobQueue(str(tmp_path / "jobs.sqlite"), limits)
            closing.callback(opened.close)
            opened.recover()
            return opened

        yield again


def claimed(queue):
    job = queue.claim(0.0)
    return None if job is None else int(job.id, 16)


def test_putting_a_job_twice_makes_one_job(queue):
    first, created = queue.put(name(1), spec(), Owner("a"))
    again, created_again = queue.put(name(1), spec(), Owner("b"))
    assert (created, created_again) == (True, False)
    assert first == again


def test_racing_clients_make_one_job(queue):
    created = []
    threads = [
        threading.Thread(target=lambda: created.append(queue.put(name(1), spec(), Owner("a"))[1])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created) == [False] * 7 + [True]


def test_another_specification_under_the_same_id_is_a_conflict(queue):
    queue.put(name(1), spec(), Owner("a"))
    with pytest.raises(JobConflict):
        queue.put(name(1), spec(repeat=1), Owner("a"))


def test_owners_are_served_in_turn(queue):
    for number, study in enumerate("aaaabbc"):
        queue.put(name(number), spec(), Owner(study))
    assert [claimed(queue) for _ in range(8)] == [0, 4, 6, 1, 5, 2, 3, None]


def test_interrupted_jobs_come_first_and_fail_after_the_limit(queue, reopen):
    for number in range(3):
        queue.put(name(number), spec(), Owner("a"))
    assert claimed(queue) == 0
    queue = reopen(queue)
    assert queue.get(name(0)).state == "queued"
    assert claimed(queue) == 0
    assert queue.get(name(0)).attempts == 2
    queue = reopen(queue)
    status = queue.get(name(0))
    assert status.state == "failed"
    assert status.error["details"]["kind"] == "interrupted"
    assert claimed(queue) == 1


def test_recovery_kills_the_child_only_when_it_is_the_same(queue, monkeypatch, reopen):
    seen = []
    monkeypatch.setattr(processes, "kill_if_same", seen.append)
    queue.put(name(1), spec(), Owner("a"))
    queue.claim(0.0)
    queue.started(name(1), "latency", processes.ProcessId(12345, 99, "boot"))
    reopen(queue)
    assert seen == [processes.ProcessId(12345, 99, "boot")]


def test_after_a_reboot_no_process_is_killed(queue, monkeypatch, reopen):
    """The pid may belong to any process; here it is the same process, but recorded with another boot."""
    queue.put(name(1), spec(), Owner("a"))
    queue.claim(0.0)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        queue.started(name(1), "latency", processes.identify(stranger.pid))
        monkeypatch.setattr(processes, "boot_id", lambda: "the next boot")
        queue = reopen(queue)
        assert stranger.poll() is None
        stranger.kill()
    assert claimed(queue) == 1


def test_two_crashes_by_one_signal_fail_the_job(queue):
    queue.put(name(1), spec(), Owner("a"))
    queue.put(name(2), spec(), Owner("b"))
    assert claimed(queue) == 1
    queue.interrupted(name(1), "SIGSEGV", {"output_tail": "first"})
    assert queue.get(name(1)).state == "queued"
    assert claimed(queue) == 1, "it is tried again at once"
    queue.interrupted(name(1), "SIGSEGV", {"output_tail": "second"})
    status = queue.get(name(1))
    assert (status.state, status.error["details"]["kind"]) == ("failed", "crash")
    assert status.error["details"]["output_tail"] == "second"
    assert status.error["details"]["interruptions"] == ["SIGSEGV", "SIGSEGV"]
    assert queue.put(name(1), spec(), Owner("a"))[0].state == "failed"


def test_a_requested_cancellation_survives_a_restart(queue, reopen):
    queue.put(name(1), spec(), Owner("a"))
    queue.claim(0.0)
    queue.cancel(name(1))
    assert reopen(queue).get(name(1)).state == "cancelled"


def test_a_request_without_an_environment_keeps_the_wanted_one(queue):
    here, there = "c3" * 32, "d4" * 32
    queue.put(name(1), spec(), Owner("a"), here)
    queue.put(name(1), spec(), Owner("b"))
    assert queue.claim(0.0).environment == here
    queue.fail(name(1), MeasurementFailed("crash", "crashed"))
    for environment in (None, here):
        assert queue.put(name(1), spec(), Owner("a"), environment)[0].state == "failed"
    assert queue.put(name(1), spec(), Owner("a"), there)[0].state == "queued", "it may succeed there"
    assert queue.claim(0.0).environment == there


def test_a_write_that_fails_changes_nothing(queue, monkeypatch):
    queue.put(name(1), spec(), Owner("a"))

    def refuse(*arguments, **more):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(queue._events, "add", refuse)
        with pytest.raises(sqlite3.OperationalError):
            queue.claim(0.0)
        with pytest.raises(sqlite3.OperationalError):
            queue.put(name(2), spec(), Owner("a"))
    assert queue.get(name(1)).attempts == 0
    assert queue.put(name(2), spec(), Owner("a"))[1] is True
    assert claimed(queue) == 1


def test_a_released_job_does_not_count_as_interrupted(queue):
    queue.put(name(1), spec(), Owner("a"))
    for attempt in range(1, 5):
        assert queue.claim(0.0).attempts == attempt
        queue.release(name(1))
    assert queue.get(name(1)).state == "queued"


def test_cancelling(queue):
    cancelled = []
    queue.on_cancel_running = lambda: cancelled.append(True)
    queue.put(name(1), spec(), Owner("a"))
    assert queue.cancel(name(1)).state == "cancelled"
    assert queue.cancel(name(1)).state == "cancelled"
    assert queue.put(name(1), spec(), Owner("a"))[0].state == "queued"
    queue.claim(0.0)
    assert queue.cancel(name(1)).state == "running"
    assert cancelled == [True]
    queue.release(name(1))
    assert queue.get(name(1)).state == "cancelled"
    with pytest.raises(NotFound):
        queue.cancel(name(9))


def test_a_job_goes_on_for_the_other_studies_that_wait_for_it(queue):
    queue.put(name(1), spec(), Owner("a"))
    queue.put(name(1), spec(), Owner("b"))
    assert queue.cancel(name(1), "a").state == "queued"
    assert queue.cancel(name(1), "b").state == "cancelled"
    queue.put(name(1), spec(), Owner("a"))
    assert queue.cancel(name(1), "a").state == "cancelled", "b asked for it before it was cancelled"


def test_a_job_goes_on_for_another_client_with_a_study_of_the_same_name(queue):
    """Two people run the quickstart on one board."""
    for client in ("ana", "ben", "ben"):
        queue.put(name(1), spec(), Owner("quickstart"), asker=client)
    assert queue.cancel(name(1), "ana").state == "queued"
    assert queue.cancel(name(1), "ben").state == "cancelled"


def test_a_job_that_was_given_up_while_it_ran_goes_on_for_who_asks_now(queue):
    queue.put(name(1), spec(), Owner("a"))
    queue.claim(0.0)
    queue.cancel(name(1), "a")
    queue.put(name(1), spec(), Owner("b"))
    queue.release(name(1))  # its child was ended
    assert queue.get(name(1)).state == "queued"


def test_who_cancels_a_job_for_all_ends_it_for_all(queue):
    for study in "ab":
        queue.put(name(1), spec(), Owner(study))
    assert queue.cancel(name(1)).state == "cancelled"


def test_only_transient_failures_are_run_again(queue):
    queue.put(name(1), spec(), Owner("a"))
    queue.claim(0.0)
    queue.fail(name(1), ArtifactMissing("gone"))
    assert queue.put(name(1), spec(), Owner("a"))[0].state == "queued"
    queue.claim(0.0)
    queue.fail(name(1), MeasurementFailed("crash", "crashed"))
    assert queue.put(name(1), spec(), Owner("a"))[0].state == "failed"


def test_the_limit_of_queued_jobs_holds_for_each_owner(queue, reopen):
    queue = reopen(queue, LIMITS._replace(queued_per_owner=2))
    queue.put(name(1), spec(), Owner("a"))
    queue.put(name(2), spec(), Owner("a"))
    with pytest.raises(TooManyRequests, match="has 2 jobs") as caught:
        queue.put(name(3), spec(), Owner("a"))
    assert (caught.value.http_status, caught.value.details["retry_after_s"]) == (429, 5)
    queue.put(name(4), spec(), Owner("b"))


def test_the_limit_of_queued_jobs_holds_for_all_owners_together(queue, reopen):
    queue = reopen(queue, LIMITS._replace(queued_total=3))
    for number in range(3):
        queue.put(name(number), spec(), Owner(f"owner {number}"))
    with pytest.raises(TooManyRequests, match="all studies have 3 jobs in the queue"):
        queue.put(name(3), spec(), Owner("another"))
    claimed(queue)
    queue.put(name(3), spec(), Owner("another"))


def test_owners_without_jobs_are_removed(queue, monkeypatch):
    monkeypatch.setattr(job_table, "FINAL_JOBS_KEPT", 2)
    for number in range(6):
        queue.put(name(number), spec(), Owner(f"owner {number}"))
        queue.claim(0.0)
        queue.fail(name(number), MeasurementFailed("crash", "crashed"))
    assert set(queue._table.served()) == {"owner 4", "owner 5"}


def test_waiting_ends_with_the_job(queue):
    queue.put(name(1), spec(), Owner("a"))
    assert queue.wait(name(1), 0.0).state == "queued"
    thread = threading.Thread(target=lambda: (queue.claim(0.0), queue.fail(name(1), ArtifactMissing("x"))))
    thread.start()
    assert queue.wait(name(1), 120.0).state == "failed"
    thread.join()


def test_waiting_time_is_monotonic(tmp_path):
    now = [100.0]
    queue = JobQueue(str(tmp_path / "jobs.sqlite"), clock=lambda: now[0])
    queue.put(name(1), spec(), Owner("a"))
    now[0] += 7.5
    assert queue.claim(0.0).queue_s == 7.5
    queue.close()


def test_unfinished_jobs_reference_their_blobs(queue):
    queue.put(name(1), spec(), Owner("a"))
    assert queue.referenced() == {"ab" * 32}
    assert queue.counts() == (1, 0)
    queue.cancel(name(1))
    assert queue.referenced() == set()
