"""Jobs and results in a state folder that another version of the agent wrote."""

import json
import sqlite3

import pytest

from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.wire.protocol import BlobRef, JobSpec, Owner

HERE, JOB, NEXT = "e1" * 32, "01" * 32, "02" * 32


@pytest.fixture
def spec(tiny_protocol):
    return JobSpec("measure", (BlobRef("model.onnx", "b2" * 32, 1),), "noop", {"busy_us": 0}, tiny_protocol)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "jobs.sqlite")


def change(path, column, change):
    with sqlite3.connect(path) as database:
        (text,) = database.execute(f"SELECT {column} FROM jobs WHERE id = ?", (JOB,)).fetchone()
        database.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", (json.dumps(change(json.loads(text))), JOB))
    database.close()


def without_swap(result):
    """Remove a key, so that this version cannot read the result."""
    del result["swap_mb"]
    return result


@pytest.mark.parametrize("environment", [None, HERE])
def test_an_unreadable_result_is_measured_again(tmp_path, path, spec, environment):
    (tmp_path / "model.onnx").write_bytes(b"x")
    measured = measure_job(spec, JobContext(JOB, "d", HERE, 1, 0.0), JobFolder(str(tmp_path), StopSignal()))
    queue = JobQueue(path)
    queue.put(JOB, spec, Owner("a"))
    queue.claim(0.0)
    queue.finish(JOB, measured)
    assert queue.put(JOB, spec, Owner("a"), environment)[0].state == "done"
    change(path, "result", without_swap)
    status = queue.get(JOB)
    assert (status.state, status.error["code"], status.error["retryable"]) == ("failed", "outdated", True)
    assert queue.put(JOB, spec, Owner("a"), environment)[0].state == "queued"
    assert queue.claim(0.0).id == JOB
    queue.close()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_an_unreadable_job_fails_and_blocks_no_other(path, spec, state):
    """Otherwise it would end the measuring thread and refuse every upload, after each restart."""
    queue = JobQueue(path)
    queue.put(JOB, spec, Owner("a"))
    if state == "running":
        queue.claim(0.0)
    queue.put(NEXT, spec, Owner("b"))
    queue.close()
    change(path, "spec", lambda spec: dict(spec, new_in_a_later_version=1))
    again = JobQueue(path)
    again.recover()
    assert again.get(JOB).error["code"] == "outdated"
    assert again.referenced() == {"b2" * 32}
    assert again.claim(0.0).id == NEXT
    again.close()
