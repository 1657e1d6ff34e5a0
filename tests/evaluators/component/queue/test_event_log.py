"""The events of a job, over HTTP, in the queue's file, and in a callback."""

import threading

import pytest

from vitsearch_agent.client.client import RequestOptions
from vitsearch_agent.errors import ArtifactMissing, NotFound
from vitsearch_agent.queue import event_log as events_module
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.wire.protocol import SCREEN, BlobRef, JobSpec, Owner

SPEC = JobSpec("measure", (BlobRef("model.onnx", "ab" * 32, 1),), "noop", {}, SCREEN, 0)
JOB, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    yield queue
    queue.close()


def whats(events):
    return [event.what for event in events]


def test_events_of_a_job_are_in_order_over_a_restart(queue, tmp_path):
    queue.put(JOB, SPEC, Owner("a"))
    queue.put(OTHER, SPEC, Owner("b"))
    queue.claim(0.0)
    queue.report(JOB, "phase", phase="latency", process=0)
    queue.interrupted(JOB, "SIGSEGV", {})
    queue.claim(0.0)
    queue.close()
    again = JobQueue(str(tmp_path / "jobs.sqlite"))
    again.recover()
    again.claim(0.0)
    again.fail(JOB, ArtifactMissing("gone"))
    events = again.events(JOB, 0, 0.0)
    assert whats(events) == [
        "queued", "started", "phase", "interrupted", "queued", "started", "interrupted", "queued", "started", "failed",
    ]  # fmt: skip
    assert [event.n for event in events] == sorted({event.n for event in events})
    assert events[2].details == {"phase": "latency", "process": 0}
    assert [events[index].details["cause"] for index in (3, 6)] == ["SIGSEGV", "agent"]
    assert whats(again.events(OTHER, 0, 0.0)) == ["queued"]
    again.close()


def test_waiting_returns_with_the_next_event_or_when_the_job_is_final(queue):
    queue.put(JOB, SPEC, Owner("a"))
    first = queue.events(JOB, 0, 0.0)[-1].n
    assert queue.events(JOB, first, 0.0) == []
    thread = threading.Thread(target=lambda: queue.cancel(JOB))
    thread.start()
    last = queue.events(JOB, first, 120.0)
    thread.join()
    assert whats(last) == ["cancelled"]
    assert queue.events(JOB, last[-1].n, 120.0) == []
    with pytest.raises(NotFound):
        queue.events(OTHER, 0, 0.0)


def test_the_number_of_events_is_limited(queue, monkeypatch):
    monkeypatch.setattr(events_module, "EVENTS_KEPT", 10)
    monkeypatch.setattr(events_module, "EVENTS_PER_REPLY", 4)
    queue.put(JOB, SPEC, Owner("a"))
    for index in range(30):
        queue.report(JOB, "phase", index=index)
    shown = queue.events(JOB, 0, 0.0)
    assert [event.details["index"] for event in shown] == [20, 21, 22, 23]
    assert [event.details["index"] for event in queue.events(JOB, shown[-1].n, 0.0)] == [24, 25, 26, 27]


def test_a_callback_gets_every_event_once(client, blob, tiny_protocol):
    events = []
    measurement = client.measure(
        blob, "noop", {"busy_us": 10}, tiny_protocol, request=RequestOptions(on_event=events.append)
    )
    assert whats(events)[:2] == ["queued", "started"]
    assert whats(events)[-1] == "done"
    assert events == client.events(measurement.job_id)
    assert client.events(measurement.job_id, after=events[-1].n, wait_s=25.0) == []


def test_invalid_event_queries_are_refused(ask):
    for query in ("after=x", "after=-1", "after=1e9", "wait=x", "after=" + "9" * 40):
        assert ask("GET", f"/v1/jobs/{JOB}/events?{query}")[0] == 400
    assert ask("GET", f"/v1/jobs/{JOB}/events")[0] == 404
