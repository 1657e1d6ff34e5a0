"""A run that makes no progress says why, in one line."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest

from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.progress import Silent
from vitsearch.pipeline.stage_clock import StageClock
from vitsearch.search.watch import outage, stall
from vitsearch.search.watch.stall import StallWatch
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Claim, Ledger
from vitsearch.testing.fakes import FakeDevice
from vitsearch.workers.worker_usage import WorkerUsage

QUEUE = "waits for device nano: 1 job is before ours, the first of study 'kim'"


@dataclass
class Quiet:
    """A run in which the stages of `running` have been under way for `now` seconds."""

    pipeline: object
    now: list[float]
    share: float = 1.0
    running: tuple[Stage, ...] = (Stage.TRAIN,)
    starts_s: float = 0.0
    looks: int = 0
    is_stopped: bool = False
    awaits: str = ""

    def usage(self) -> dict[int, WorkerUsage]:
        self.looks += 1
        if self.now[0] < self.starts_s:
            return {}
        return {
            7: WorkerUsage(self.share * self.now[0], (1.0 - self.share) * self.now[0] + 1.0, False, self.is_stopped)
        }

    def after(self, seconds: int) -> str | None:
        return asyncio.run(self._watch(seconds))

    async def _watch(self, seconds: int) -> str | None:
        watch = StallWatch(self.pipeline.context, self.pipeline.device, lambda: [3], self.usage, lambda: self.awaits)
        clock, reason = self.pipeline.context.clock, None
        with ExitStack() as under_way:
            for stage in self.running:
                under_way.enter_context(clock.running(stage))
            for _ in range(seconds):
                self.now[0] += 1.0
                reason = await watch.reason()
        return reason


@pytest.fixture
def quiet(fake_study):
    now = [1.0]
    ledger = Ledger.open(fake_study.space.storage)
    pipeline = fake_study.pipeline(ledger)
    pipeline.context = replace(pipeline.context, clock=StageClock(lambda: now[0]))
    yield Quiet(pipeline, now)
    ledger.close()


def test_a_training_that_gets_no_core_is_named_with_its_share(quiet):
    quiet.share = 0.04
    assert quiet.after(75) == "training of trial 3 got 4 % of a core in the last 60 s: other processes use this machine"


def test_a_worker_that_starts_late_is_watched_from_its_first_look(quiet):
    quiet.share, quiet.starts_s = 0.04, 45.0
    assert quiet.after(75) == "training of trial 3 got 4 % of a core in the last 20 s: other processes use this machine"


def test_a_worker_that_was_stopped_is_named_with_what_lets_it_continue(quiet):
    quiet.is_stopped = True
    said = "training of trial 3 is stopped: a signal has stopped its process; to let it continue: kill -CONT 7"
    assert quiet.after(75) == said


def test_a_worker_that_pauses_for_a_measurement_is_not_said_to_be_stopped(quiet):
    quiet.is_stopped, quiet.running = True, (Stage.TRAIN, Stage.MEASURE)
    assert quiet.after(75) is None


def test_a_run_without_a_stage_says_what_it_waits_for(quiet):
    quiet.running, quiet.awaits = (), "2 candidates wait for a training"
    assert quiet.after(50) is None
    assert quiet.after(20) == "no stage was under way for 1 min: 2 candidates wait for a training"


def test_a_run_without_a_stage_is_given_the_time_of_its_slowest_one(quiet):
    quiet.running, quiet.awaits = (), "2 candidates wait for a training"
    quiet.pipeline.context.clock.longest_s[Stage.TRAIN] = 600.0
    assert quiet.after(500) is None
    assert quiet.after(100) == "no stage was under way for 10 min: 2 candidates wait for a training"


def test_a_training_that_computes_is_given_its_time(quiet):
    assert quiet.after(600) is None


def test_nothing_is_said_in_the_first_minute_and_nothing_read_in_the_first_seconds(quiet):
    quiet.share = 0.04
    assert quiet.after(9) is None
    assert quiet.looks == 0
    assert quiet.after(55) is None
    assert quiet.looks <= 6


def test_several_stages_of_workers_are_named_together(quiet):
    quiet.share, quiet.running = 0.1, (Stage.EXPORT, Stage.PROXY)
    assert quiet.after(75).startswith("scoring before training and exporting got 10 % of a core")


def test_the_queue_of_the_device_is_named(quiet, fake_study):
    fake_study.device.queue, quiet.running = QUEUE, (Stage.MEASURE,)
    assert quiet.after(75) == QUEUE


def test_a_stage_that_takes_far_longer_than_before_is_named(quiet):
    with quiet.pipeline.context.clock.running(Stage.TRAIN):
        quiet.now[0] += 60.0
    assert quiet.after(200) == "training takes 3 min; the longest so far took 1 min"


def test_a_result_that_another_run_makes_is_named(quiet, fake_study):
    other = replace(DriverId.current(), host="tern", pid=4711)
    key, quiet.running = StageKey(Stage.BASE, "ab"), ()  # nothing of its own is under way
    ledger = quiet.pipeline.context.ledger
    ledger.claim(Claim(str(key), json.dumps(other.to_json(), sort_keys=True)), 600.0)

    async def wait_and_watch() -> str | None:
        flight = quiet.pipeline.context.single_flight
        waiting = asyncio.ensure_future(flight.get(key, lambda: None, lambda: None))
        await asyncio.sleep(0.01)
        reason = await quiet._watch(75)
        waiting.cancel()
        await flight.stop()
        assert flight.waits_for is None
        return reason

    assert asyncio.run(wait_and_watch()) == "waits for a result that another run makes (process 4711 on tern)"


@dataclass
class Reasons(Silent):
    waited_for: list[str] = field(default_factory=list)

    def waits(self, text):
        if text is not None:
            self.waited_for.append(text)


def test_it_is_shown_before_the_search_begins_too(quiet, monkeypatch):
    monkeypatch.setattr(stall, "SHOW_S", 0.0)
    quiet.share, quiet.running, progress = 0.01, (Stage.DATA,), Reasons()

    async def prepare_slowly() -> None:
        context = replace(quiet.pipeline.context, progress=progress)
        showing = asyncio.create_task(StallWatch(context, quiet.pipeline.device, usage=quiet.usage).show())
        with context.stage(Stage.DATA):
            while not progress.waited_for:
                quiet.now[0] += 1.0
                await asyncio.sleep(0)
        showing.cancel()

    asyncio.run(prepare_slowly())
    assert progress.waited_for[0].startswith("preparing the data got 1 % of a core")


@dataclass
class Occupied(FakeDevice):
    """Measures only when the run has said what it waits for."""

    reasons: Reasons = field(default_factory=Reasons)

    async def measure(self, artifact, deployment, protocol, repeat):
        while not self.reasons.waited_for:
            await asyncio.sleep(0.01)
        return await super().measure(artifact, deployment, protocol, repeat)


@pytest.mark.long
def test_a_run_shows_the_reason_while_it_waits(fake_study, monkeypatch):
    monkeypatch.setattr(stall, "QUIET_S", 0.0)
    monkeypatch.setattr(stall, "LOOK_S", 0.0)
    monkeypatch.setattr(outage, "LOOK_EVERY_S", 0.01)
    device = Occupied(queue=QUEUE)
    none = replace(fake_study.with_space(search__trials=0), device=device, progress=device.reasons)
    assert none.run().complete
    assert set(device.reasons.waited_for) == {QUEUE}
