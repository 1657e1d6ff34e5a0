import json
import urllib.request

import pytest

from vitsearch_evaluators.agent.canary import FLAG, Canary, Look, Reference, drift, is_good
from vitsearch_evaluators.client.embedded_agent import EmbeddedAgent
from vitsearch_evaluators.conditions.job_context import JobContext
from vitsearch_evaluators.config import CanaryConfig
from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.measure_job import measure_job
from vitsearch_evaluators.queue.queue import JobQueue
from vitsearch_evaluators.wire.protocol import BlobRef, JobSpec, Latency, Owner

HERE, THERE = "e1" * 32, "e2" * 32
CONFIG = CanaryConfig(every_jobs=3, every_s=100.0, max_drift=0.05)


def latency(p50, share=0.01):
    return Latency(300, p50, p50, p50, None, p50, p50, p50, p50 * (1 - share), p50 * (1 + share))


def look(cpu, wall=None, contended=False, share=0.01):
    return Look(latency(cpu, share), latency(cpu if wall is None else wall, share), contended)


class Time:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def canary(tmp_path, time):
    return Canary(str(tmp_path / "canary.json"), CONFIG, time)


def in_turn(*looks):
    """A measurement that sees these, one after the other, and fails for one more."""
    left = list(looks)
    return lambda: left.pop(0)


def flagged(canary, environment, measure):
    """Let it look and return the jobs that it wants flagged."""
    told = []
    canary.look(environment, measure, told.extend)
    return told


def test_it_is_its_turn_after_jobs_or_seconds_but_never_with_nothing_to_verify(canary, time):
    canary.finished("job0")
    flagged(canary, HERE, in_turn(look(1.0)))
    time.now_s = 500.0
    assert not canary.due(idle=True), "nothing was measured since"
    flagged(canary, HERE, in_turn(look(1.0)))
    for number in range(3):
        assert not canary.due(idle=False)
        canary.finished(f"job{number}")
    assert canary.due(idle=False)
    flagged(canary, HERE, in_turn(look(1.0)))
    canary.finished("job3")
    assert not canary.due(idle=True)
    time.now_s += 100.0
    assert canary.due(idle=False)


def test_the_first_look_is_taken_when_the_device_is_idle(canary):
    assert not canary.due(idle=True)
    canary.finished("job0")
    assert not canary.due(idle=False)
    assert canary.due(idle=True)


def test_drift_is_judged_after_a_second_look(canary):
    flagged(canary, HERE, in_turn(look(1.0)))
    for job in ("a", "b"):
        canary.finished(job)
    assert flagged(canary, HERE, in_turn(look(1.2), look(1.01))) == []
    assert canary.quarantined is None
    for job in ("c", "d"):
        canary.finished(job)
    assert flagged(canary, HERE, in_turn(look(1.2), look(1.2))) == ["c", "d"], "those before the last good one stand"
    assert "CPU time is 1.2 ms" in canary.quarantined
    assert "+20.0%" in canary.quarantined


def test_quarantine_ends_with_a_good_look_and_asks_for_one_soon(canary, time):
    flagged(canary, HERE, in_turn(look(1.0)))
    flagged(canary, HERE, in_turn(look(1.2), look(1.2)))
    assert not canary.due(idle=True)
    time.now_s += 60.0
    assert canary.due(idle=False)
    assert flagged(canary, HERE, in_turn(look(1.06, share=0.02))) == []
    assert canary.quarantined is not None, "near is not good"
    flagged(canary, HERE, in_turn(look(0.97)))
    assert canary.quarantined is None


def test_what_it_knows_outlives_the_agent(canary, tmp_path, time):
    flagged(canary, HERE, in_turn(look(1.0)))
    canary.finished("a")
    again = Canary(str(tmp_path / "canary.json"), CONFIG, time)
    assert flagged(again, HERE, in_turn(look(1.2), look(1.2))) == ["a"]
    assert Canary(str(tmp_path / "canary.json"), CONFIG, time).quarantined == again.quarantined is not None


def test_jobs_are_forgotten_when_they_are_flagged_and_not_before(canary, tmp_path, time):
    flagged(canary, HERE, in_turn(look(1.0)))
    canary.finished("a")

    def killed(_jobs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canary.look(HERE, in_turn(look(1.2), look(1.2)), killed)
    again = Canary(str(tmp_path / "canary.json"), CONFIG, time)
    assert flagged(again, HERE, in_turn(look(1.2), look(1.2))) == ["a"]


def test_another_environment_has_a_reference_of_its_own(canary):
    flagged(canary, HERE, in_turn(look(1.0)))
    flagged(canary, THERE, in_turn(look(2.0)))
    flagged(canary, HERE, in_turn(look(1.0)))
    flagged(canary, THERE, in_turn(look(2.0)))
    assert canary.quarantined is None


def test_a_busy_device_is_no_reference(canary):
    flagged(canary, HERE, in_turn(look(3.0, contended=True)))
    flagged(canary, HERE, in_turn(look(1.0)))
    flagged(canary, HERE, in_turn(look(1.01)))
    assert canary.quarantined is None


def test_a_state_that_cannot_be_read_is_as_if_there_were_none(tmp_path, time):
    (tmp_path / "canary.json").write_text('{"quarantined": 7}')
    assert Canary(str(tmp_path / "canary.json"), CONFIG, time).quarantined is None


def test_a_disk_that_is_full_stops_nothing(tmp_path, time):
    canary = Canary(str(tmp_path / "missing" / "canary.json"), CONFIG, time)
    flagged(canary, HERE, in_turn(look(1.0)))
    flagged(canary, HERE, in_turn(look(1.2), look(1.2)))
    assert canary.quarantined


ONCE = Reference(1.0, 1.0)


@pytest.mark.parametrize(
    ("seen", "drifted", "good"),
    [
        (look(1.0), False, True),
        (look(1.049), False, True),
        (look(1.055, share=0.01), False, False),
        (look(1.3, share=0.3), False, False),
        (look(1.08), True, False),
        (look(0.90), True, False),
        (look(1.0, wall=1.3), True, False),
        (look(1.0, wall=1.3, contended=True), False, True),
    ],
    ids=["same", "at the edge", "a little beyond", "too vague", "slower", "faster", "waits", "others wait too"],
)
def test_drift_is_what_chance_and_other_load_do_not_explain(seen, drifted, good):
    assert (drift(ONCE, seen, 0.05) is not None) == drifted
    assert is_good(ONCE, seen, 0.05) == good


def configure(state, max_drift, reference_ms, environment, **rest):
    """Write what an agent that starts on `state` will read."""
    canary = {"every_jobs": 1, "every_s": 1, "max_drift": max_drift}
    (state / "config.json").write_text(json.dumps({"canary": canary}))
    once = {"cpu_ms": reference_ms, "wall_ms": reference_ms}
    kept = dict({"references": {environment: once}, "unverified": [], "quarantined": None}, **rest)
    (state / "canary.json").write_text(json.dumps(kept))


@pytest.mark.slow
def test_a_device_that_drifted_says_so_flags_its_results_and_recovers(tmp_path, blob, tiny_protocol, until):
    state = tmp_path / "state"
    with EmbeddedAgent(str(state)) as agent, agent.client("study") as client:
        environment = client.device().environment_id
        agent.stop()
        configure(state, 0.001, 1e-4, environment)
        first = client.measure(blob, "noop", {}, tiny_protocol)
        assert "unverified_device" not in first.flags
        reason = until(lambda: client.device().quarantined, "the quarantine")
        assert "canary" in reason
        with urllib.request.urlopen(f"{agent.url}/v1/health") as reply:
            assert json.load(reply)["problems"] == [f"quarantine: {reason}"]
        until(lambda: "unverified_device" in client.measure(blob, "noop", {}, tiny_protocol).flags, "the flag")
        agent.stop()
        configure(state, 10.0, 1.0, environment, quarantined=reason)
        second = client.measure(blob, "noop", {}, tiny_protocol, repeat=1)
        assert "unverified_device" in second.flags
        until(lambda: client.device().quarantined is None, "the end of the quarantine")
        third = client.measure(blob, "noop", {}, tiny_protocol, repeat=2)
        assert "unverified_device" not in third.flags


def test_flags_are_one_wait_for_the_disk(tmp_path, monkeypatch):
    """A thousand of them, each on the disk by itself, kept an SD card and every client waiting for a minute."""
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    statements = []
    monkeypatch.setattr(queue._database, "run", lambda statement, *values: statements.append(statement))
    queue.flag(["00" * 32, "01" * 32], FLAG)
    assert statements == ["BEGIN IMMEDIATE", "COMMIT"]
    monkeypatch.undo()
    queue.close()


def test_flags_are_added_once_and_only_to_results_that_are_there(tmp_path, tiny_protocol):
    (tmp_path / "model.onnx").write_bytes(b"x")
    spec = JobSpec("measure", (BlobRef("model.onnx", "b2" * 32, 1),), "noop", {"busy_us": 0}, tiny_protocol)
    done, waiting, unknown = (f"{number:064x}" for number in (1, 2, 3))
    context = JobContext(done, "device-1", HERE, 1, 0.0)
    measured = measure_job(spec, context, JobFolder(str(tmp_path), StopSignal()))
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    for identifier in (done, waiting):
        queue.put(identifier, spec, Owner("study"))
    assert queue.claim(0.0).id == done
    queue.finish(done, measured)
    for _ in range(2):
        queue.flag([done, waiting, unknown], FLAG)
    assert queue.get(done).result.flags.count(FLAG) == 1
    assert queue.get(waiting).state == "queued"
    queue.close()
