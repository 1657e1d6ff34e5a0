"""Faults 3 and 14 of the list in `test_faults`: a device that restarts in another environment, and clocks that jump."""

import os
import pathlib
import re
import signal

import pytest

import vitsearch_agent
from support.marks import long
from vitsearch_agent.client.client import RequestOptions
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.errors import EnvironmentChanged

two_processors = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two processors: those that an agent may use are part of its environment",
)


def half_done(state, blob, protocol, options, until, environment_of=lambda info: None):
    """Kill an agent after its first measuring process has answered, while the second one measures."""
    with EmbeddedAgent(state, cpus="0,1") as agent, agent.client("s", deadline_s=0.0) as client:
        digest = client.upload(blob)
        submit(client, digest, protocol, options, environment_of(client.device()))
        until(lambda: os.path.exists(options["note"] + ".second"), "the second process")
        os.kill(agent.pid, signal.SIGKILL)
        agent._process.wait()


def submit(client, digest, protocol, options, environment):
    """Submit a job and do not wait for it."""

    class Enough(Exception):
        pass

    def stop(event):
        raise Enough

    with pytest.raises(Enough):
        client.measure(
            digest, "faults", options, protocol, request=RequestOptions(environment_id=environment, on_event=stop)
        )


@pytest.mark.long
@two_processors
@pytest.mark.parametrize(("cpus", "processes"), [("0", 2), *long(("0,1", 1))])
def test_an_interrupted_job_continues_only_in_the_same_environment(
    tmp_path, faulty_environment, blob, tiny_protocol, until, cpus, processes, notes
):
    state, gate = str(tmp_path / "state"), tmp_path / "gate"
    options = {"fault": "second_waits", "gate": str(gate), "note": str(notes / "note")}
    twice = tiny_protocol._replace(id="test-twice", processes=2, max_processes=2)
    half_done(state, blob, twice, options, until)
    gate.write_text("open")
    with EmbeddedAgent(state, cpus=cpus) as agent, agent.client("s") as client:
        measurement = client.measure(blob, "faults", options, twice)
        assert (measurement.attempts, measurement.latency_ms.n) == (2, 22)
        assert measurement.environment_id == client.device().environment_id
        whats = [event.what for event in client.events(measurement.job_id)]
    last_start = len(whats) - whats[::-1].index("started")
    assert whats[last_start:] == ["phase"] * processes + ["done"]


@two_processors
def test_a_job_for_the_old_environment_fails_in_the_new_one_with_a_transient_error(
    tmp_path, faulty_environment, blob, tiny_protocol, until, notes
):
    state, gate = str(tmp_path / "state"), tmp_path / "gate"
    options = {"fault": "second_waits", "gate": str(gate), "note": str(notes / "note")}
    twice = tiny_protocol._replace(id="test-twice", processes=2, max_processes=2)
    pinned = []

    def pin(info):
        pinned.append(info.environment_id)
        return info.environment_id

    half_done(state, blob, twice, options, until, pin)
    gate.write_text("open")
    with EmbeddedAgent(state, cpus="0") as agent, agent.client("s") as client:
        until(lambda: client.jobs() == [])
        with pytest.raises(EnvironmentChanged) as caught:
            client.measure(blob, "faults", options, twice, request=RequestOptions(environment_id=pinned[0]))
        assert caught.value.transient
        here = client.device().environment_id
        assert caught.value.details == {"wanted": pinned[0], "actual": here}
        assert client.measure(blob, "faults", options, twice).environment_id == here, "any environment will do"
        assert (
            client.measure(blob, "faults", options, twice, request=RequestOptions(environment_id=here)).environment_id
            == here
        )


def test_durations_do_not_use_the_wall_clock():
    """The wall clock is used only for UTC texts for people. The external meter, whose samples have wall-clock times,
    takes it from System and detects jumps."""
    home = pathlib.Path(vitsearch_agent.__file__).parent
    jumping = re.compile(r"\btime\.time\b|\bdatetime\.(now|utcnow|today)\b|\btime\.localtime\b|from time import")
    names = [path.name for path in sorted(home.rglob("*.py")) if jumping.search(path.read_text())]
    assert names == ["system.py"]
