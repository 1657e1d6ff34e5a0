"""Two hundred SIGKILLs over a hundred jobs: every job is done with one result, and no process is left.

Two kills in five hit the agent, one a warm parent, the others the measuring child, each at a random moment in the life
of a child: while it starts, imports, measures, or while its answer is stored.
"""

import json
import os
import random
import signal
import sqlite3
import time

import pytest

from support.warm_parents import warm_parents_of
from vitsearch_agent.base import processes
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.measurement import Measurement

KILLS, JOBS, OWNERS = 200, 100, 4
SEED = 20
LATEST_S = 0.15  # about the lifetime of a child


class Watcher:
    """Reads the agent's database from another process."""

    def __init__(self, state):
        self._database = sqlite3.connect(f"file:{state}/jobs.sqlite?mode=ro", uri=True, timeout=60)

    def rows(self, query):
        return self._database.execute(query).fetchall()

    def child(self):
        """Return the running measuring child, None if there is none."""
        rows = self.rows("SELECT process FROM jobs WHERE state = 'running' AND process IS NOT NULL")
        process = processes.ProcessId(*json.loads(rows[0][0])) if rows else None
        return process if process is not None and processes.identify(process.pid) == process else None

    def left(self):
        return self.rows("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')")[0][0]

    def close(self):
        self._database.close()


def processes_in(folder):
    """Return the running processes whose working folder is below `folder`."""
    pids = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            inside = os.readlink(f"/proc/{name}/cwd").startswith(folder)
        except OSError:
            continue
        if inside and processes.identify(int(name)) is not None:
            pids.append(int(name))
    return pids


def put_jobs(agent, path, protocol, repeats):
    """Submit jobs of several owners without waiting for them."""
    from vitsearch_agent.wire.protocol import PROTOCOL_VERSION, BlobRef, JobSpec, job_id

    with agent.client("uploads") as client:
        digest = client.upload(path)
        device_id = client.device().device_id
        blob = BlobRef("model.onnx", digest, os.path.getsize(path))
        for repeat in repeats:
            spec = JobSpec("measure", (blob,), "noop", {"busy_us": 1000}, protocol, repeat)
            owner = {"study": f"study-{repeat % OWNERS}", "trial": repeat}
            body = {"api": PROTOCOL_VERSION, "device_id": device_id, "owner": owner, "spec": spec.to_json()}
            client._transport.request("PUT", f"/v1/jobs/{job_id(spec, device_id)}", body)


def kill_one(agent, watcher, draw, until):
    """Kill the child, a warm parent or the agent at a random moment; False if all jobs ended before."""
    child = until(lambda: watcher.child() or watcher.left() == 0, "a child, or the end")
    if child is True:
        return False
    time.sleep(draw.uniform(0.0, LATEST_S))
    kind = draw.choices(["agent", "parent", "child"], [2, 1, 2])[0]
    if kind == "agent":
        os.kill(agent.pid, signal.SIGKILL)
        agent._process.wait()
        agent.restart_if_dead()
        return True
    parents = warm_parents_of({str(agent.pid)})
    if kind == "parent" and parents:
        os.kill(draw.choice(parents), signal.SIGKILL)
        return True
    victim = watcher.child()
    return victim is not None and processes.kill_if_same(victim)


@pytest.mark.long
def test_two_hundred_kills_over_a_hundred_jobs(tmp_path, blob, tiny_protocol, until):
    state = tmp_path / "state"
    state.mkdir()
    limits = {"interruptions_max": 10**6, "queued_per_owner": JOBS}
    (state / "config.json").write_text(json.dumps({"limits": limits}))
    draw, kills, count, agents = random.Random(SEED), 0, JOBS, set()
    protocol = tiny_protocol._replace(processes=3, max_processes=3)
    oom_kills_before = processes.out_of_memory_kills() or 0
    with EmbeddedAgent(str(state)) as agent:
        put_jobs(agent, blob, protocol, range(JOBS))
        watcher = Watcher(state)
        while kills < KILLS:
            if watcher.left() < OWNERS:  # a fast machine
                put_jobs(agent, blob, protocol, range(count, count + OWNERS))
                count += OWNERS
            agents.add(str(agent.pid))
            kills += kill_one(agent, watcher, draw, until)
        while watcher.left():
            left = watcher.left()
            until(lambda: watcher.left() < left, "the next job")  # noqa: B023 - called before `left` changes
        jobs = watcher.rows("SELECT id, state, attempts, error, result FROM jobs")
        events = watcher.rows("SELECT job, what, COUNT(*) FROM events GROUP BY job, what")
        watcher.close()
        agents.add(str(agent.pid))
    # Without a group of its own the agent reads the kernel's counter for the whole machine. When a test beside this one
    # runs out of memory, a child that this test kills at that moment is taken for a victim of it.
    oom_kills_elsewhere = (processes.out_of_memory_kills() or 0) - oom_kills_before
    mistaken = {job for job, _, _, error, _ in jobs if error and "out_of_memory" in error}
    assert len(mistaken) <= oom_kills_elsewhere
    assert [(job, error) for job, ended, _, error, _ in jobs if ended != "done" and job not in mistaken] == []
    assert len(jobs) == count
    jobs = [row for row in jobs if row[0] not in mistaken]
    for job, _, attempts, _, result in jobs:
        measurement = Measurement.from_json(json.loads(result))
        assert (measurement.job_id, measurement.attempts) == (job, attempts)
    counted = {(job, what): count for job, what, count in events}
    assert [counted[job, "done"] for job, *_ in jobs] == [1] * len(jobs)
    assert all(counted[job, "started"] == attempts for job, _, attempts, _, _ in jobs)
    until(lambda: processes_in(str(state)) + warm_parents_of(agents) == [], "the last process to end")
