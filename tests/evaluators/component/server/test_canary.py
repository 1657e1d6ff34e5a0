import json
import urllib.request

import pytest

from vitsearch_agent.config import CanaryConfig
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.server.canary import FLAG, Canary, CanaryReference, drift, is_good
from vitsearch_agent.server.canary_measurement import CanaryTimes
from vitsearch_agent.wire.paired import Milliseconds
from vitsearch_agent.wire.protocol import BlobRef, JobSpec, Owner

HERE, THERE = "e1" * 32, "e2" * 32
CONFIG = CanaryConfig(every_jobs=3, every_s=100.0, max_drift=0.05)


def latency(p50, share=0.01):
    return Milliseconds(p50, p50 * (1 - share), p50 * (1 + share))


def times(cpu, wall=None, contended=False, share=0.01):
    return CanaryTimes(latency(cpu, share), latency(cpu if wall is None else wall, share), contended)


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


def in_turn(*all_times):
    """Return a measurement that gives these times one after the other, and fails after the last."""
    left = list(all_times)
    return lambda: left.pop(0)


def flagged(canary, environment, measure):
    """Check the canary and return the jobs that it flags."""
    flagged_jobs = []
    canary.check(environment, measure, flagged_jobs.extend)
    return flagged_jobs


def test_it_is_due_after_jobs_or_seconds_if_there_are_results_to_verify(canary, time):
    canary.job_done("job0")
    flagged(canary, HERE, in_turn(times(1.0)))
    time.now_s = 500.0
    assert not canary.due(idle=True), "no job was measured since"
    flagged(canary, HERE, in_turn(times(1.0)))
    for number in range(3):
        assert not canary.due(idle=False)
        canary.job_done(f"job{number}")
    assert canary.due(idle=False)
    flagged(canary, HERE, in_turn(times(1.0)))
    canary.job_done("job3")
    assert not canary.due(idle=True)
    time.now_s += 100.0
    assert canary.due(idle=False)


def test_the_first_check_is_due_when_the_device_is_idle(canary):
    assert not canary.due(idle=True)
    canary.job_done("job0")
    assert not canary.due(idle=False)
    assert canary.due(idle=True)


def test_drift_is_judged_after_a_second_measurement(canary):
    flagged(canary, HERE, in_turn(times(1.0)))
    for job in ("a", "b"):
        canary.job_done(job)
    assert flagged(canary, HERE, in_turn(times(1.2), times(1.01))) == []
    assert canary.quarantined is None
    for job in ("c", "d"):
        canary.job_done(job)
    assert flagged(canary, HERE, in_turn(times(1.2), times(1.2))) == ["c", "d"], (
        "jobs before the last good canary are not flagged"
    )
    assert "CPU time is 1.2 ms" in canary.quarantined
    assert "+20.0%" in canary.quarantined


def test_a_quarantine_makes_a_check_due_soon_and_ends_with_a_good_one(canary, time):
    flagged(canary, HERE, in_turn(times(1.0)))
    flagged(canary, HERE, in_turn(times(1.2), times(1.2)))
    assert not canary.due(idle=True)
    time.now_s += 60.0
    assert canary.due(idle=False)
    assert flagged(canary, HERE, in_turn(times(1.06, share=0.02))) == []
    assert canary.quarantined is not None, "within the interval is not within the limit"
    flagged(canary, HERE, in_turn(times(0.97)))
    assert canary.quarantined is None


def test_its_state_survives_a_restart(canary, tmp_path, time):
    flagged(canary, HERE, in_turn(times(1.0)))
    canary.job_done("a")
    again = Canary(str(tmp_path / "canary.json"), CONFIG, time)
    assert flagged(again, HERE, in_turn(times(1.2), times(1.2))) == ["a"]
    assert Canary(str(tmp_path / "canary.json"), CONFIG, time).quarantined == again.quarantined is not None


def test_jobs_stay_unverified_until_they_are_flagged(canary, tmp_path, time):
    flagged(canary, HERE, in_turn(times(1.0)))
    canary.job_done("a")

    def killed(_jobs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canary.check(HERE, in_turn(times(1.2), times(1.2)), killed)
    again = Canary(str(tmp_path / "canary.json"), CONFIG, time)
    assert flagged(again, HERE, in_turn(times(1.2), times(1.2))) == ["a"]


def test_each_environment_has_its_own_reference(canary):
    flagged(canary, HERE, in_turn(times(1.0)))
    flagged(canary, THERE, in_turn(times(2.0)))
    flagged(canary, HERE, in_turn(times(1.0)))
    flagged(canary, THERE, in_turn(times(2.0)))
    assert canary.quarantined is None


def test_times_of_a_busy_device_are_a_provisional_reference_until_there_are_better_ones(canary):
    canary.job_done("a")
    flagged(canary, HERE, in_turn(times(3.0, contended=True)))
    assert canary.provisional(HERE)
    assert flagged(canary, HERE, in_turn(times(1.0))) == [], "another speed than the provisional one is no drift"
    assert not canary.provisional(HERE)
    flagged(canary, HERE, in_turn(times(1.01)))
    assert canary.quarantined is None


def test_an_unreadable_state_counts_as_missing(tmp_path, time):
    (tmp_path / "canary.json").write_text('{"quarantined": 7}')
    assert Canary(str(tmp_path / "canary.json"), CONFIG, time).quarantined is None


def test_a_failed_write_of_the_state_is_ignored(tmp_path, time):
    canary = Canary(str(tmp_path / "missing" / "canary.json"), CONFIG, time)
    flagged(canary, HERE, in_turn(times(1.0)))
    flagged(canary, HERE, in_turn(times(1.2), times(1.2)))
    assert canary.quarantined


REFERENCE = CanaryReference(1.0, 1.0, False)


@pytest.mark.parametrize(
    ("measured", "drifted", "good"),
    [
        (times(1.0), False, True),
        (times(1.049), False, True),
        (times(1.055, share=0.01), False, False),
        (times(1.3, share=0.3), False, False),
        (times(1.08), True, False),
        (times(0.90), True, False),
        (times(1.0, wall=1.3), True, False),
        (times(1.0, wall=1.3, contended=True), False, True),
    ],
    ids=[
        "same",
        "at the edge",
        "slightly outside",
        "wide interval",
        "slower",
        "faster",
        "waits",
        "waits for other load",
    ],
)
def test_drift_excludes_chance_and_other_load(measured, drifted, good):
    assert (drift(REFERENCE, measured, 0.05) is not None) == drifted
    assert is_good(REFERENCE, measured, 0.05) == good


def configure(state, max_drift, reference_ms, environment, **rest):
    """Write the configuration and the canary's state for an agent that starts on `state`."""
    canary = {"every_jobs": 1, "every_s": 1, "max_drift": max_drift}
    (state / "config.json").write_text(json.dumps({"canary": canary}))
    reference = {"cpu_ms": reference_ms, "wall_ms": reference_ms, "provisional": False}
    kept = dict({"references": {environment: reference}, "unverified": [], "quarantined": None}, **rest)
    (state / "canary.json").write_text(json.dumps(kept))


IMPATIENT = """
import sys
from vitsearch_agent.server import canary_measurement, worker
from vitsearch_agent.cli import app
canary_measurement.PROTOCOL = canary_measurement.PROTOCOL._replace(min_runs=11, min_s=0.0, reference=None)
worker._IDLE_S = 1.0  # an idle worker waits this long for a job before it looks at the canary: 60 s otherwise
sys.exit(app.main(sys.argv[1:]))
"""


def test_a_drifted_device_is_quarantined_flags_its_results_and_recovers(
    tmp_path, serve_agent, blob, tiny_protocol, until
):
    script, state = tmp_path / "impatient.py", tmp_path / "served"
    script.write_text(IMPATIENT)

    def start():
        return serve_agent(program=[str(script)])

    served = start()
    with served.client() as client:
        environment = client.device().environment_id
    served.close()
    configure(state, 0.001, 1e-4, environment)
    served = start()
    with served.client() as client:
        first = client.measure(blob, "noop", {}, tiny_protocol)
        assert "unverified_device" not in first.flags
        reason = until(lambda: client.device().quarantined, "the quarantine")
        assert "canary" in reason
        with urllib.request.urlopen(f"{served.url}/v1/health") as reply:
            assert json.load(reply)["problems"] == [f"quarantine: {reason}"]
        until(lambda: "unverified_device" in client.measure(blob, "noop", {}, tiny_protocol).flags, "the flag")
    served.close()
    configure(state, 10.0, 1.0, environment, quarantined=reason)
    with start().client() as client:
        second = client.measure(blob, "noop", {}, tiny_protocol, repeat=1)
        assert "unverified_device" in second.flags
        until(lambda: client.device().quarantined is None, "the end of the quarantine")
        third = client.measure(blob, "noop", {}, tiny_protocol, repeat=2)
        assert "unverified_device" not in third.flags


def test_many_flags_are_one_transaction(tmp_path, monkeypatch):
    """With a transaction for each of a thousand flags, an SD card and all clients were busy for a minute."""
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    statements = []
    monkeypatch.setattr(queue._database, "run", lambda statement, *values: statements.append(statement))
    queue.flag(["00" * 32, "01" * 32], FLAG)
    assert statements == ["BEGIN IMMEDIATE", "COMMIT"]
    monkeypatch.undo()
    queue.close()


def test_flags_are_added_once_and_only_to_existing_results(tmp_path, tiny_protocol):
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
