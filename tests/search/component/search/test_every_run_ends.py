"""Each run ends, whatever waits in its queue, fails, is stopped or is killed: the real driver between two fakes."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from support import virtual_time
from support.studies import without_patience
from vitsearch.errors import StageError
from vitsearch.search.driver import Driver
from vitsearch.stages import ExportJob, ProxyJob, ScreenJob, TrainJob
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study
from vitsearch.testing.fakes import FakeRunner, share

STAGES = (ScreenJob, ProxyJob, TrainJob, ExportJob)
_numbers = itertools.count()


@dataclass(frozen=True)
class Stop:
    """Ctrl-C, or a kill, after so many stages of a run; then what its trials held is left in them."""

    after: int
    kills: bool
    more_in_queue: int
    trials: int


@dataclass(frozen=True)
class Case:
    """A study and what happens to it: it is run after each stop, the last time until all its drivers end."""

    trials: int = 3
    candidates: int = 2
    slots: int = 1
    drivers: int = 1
    sampler: str = "random"
    small: bool = False
    in_queue: int = 0
    fails: float = 0.0
    failing: tuple[type, ...] = STAGES
    strictest: bool = False
    stops: tuple[Stop, ...] = ()


CASES = st.builds(
    Case,
    trials=st.integers(1, 4),
    candidates=st.integers(1, 4),
    slots=st.integers(1, 2),
    drivers=st.integers(1, 2),
    sampler=st.sampled_from(["random", "auto", "tpe"]),
    small=st.booleans(),
    in_queue=st.integers(0, 12),
    fails=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    failing=st.lists(st.sampled_from(STAGES), max_size=2, unique=True).map(tuple),
    strictest=st.booleans(),
    stops=st.lists(
        st.builds(Stop, st.integers(1, 40), st.booleans(), st.integers(0, 8), st.integers(1, 5)), max_size=3
    ).map(tuple),
)


class FailingRunner(FakeRunner):
    """Fails the stages that the case names: always the same ones, by what they make."""

    def __init__(self, case):
        super().__init__(before=self._fail)
        self.case = case

    def _fail(self, job):
        if not isinstance(job, self.case.failing) or share(job.spec.resolved) == (1.0, 1.0):
            return  # a run whose unpruned models fail has nothing to search
        if random.Random(repr(job.spec.resolved)).random() < self.case.fails:
            raise StageError(job.stage, "crash", "boom")

    async def run(self, job):
        await asyncio.sleep(0.01)  # so that others come in between
        return await super().run(job)


def study_of(make_study, case):
    study = make_study(trials=case.trials, candidates=case.candidates, sampler=case.sampler)
    folder = study.folder / str(next(_numbers))
    folder.mkdir()
    few = {"space__resolution": [28], "space__pruning_scope": ["uniform"], "space__ffn_pruning_ratio": [0.0, 0.5]}
    limits = {"limits": {"size_mb": {"max": 1e-9}}} if case.strictest else {}
    changed = study.with_space(storage=f"sqlite:///{folder / 'fake.db'}", **(few if case.small else {}), **limits)
    policy = {"trials_without_gain": 5, "failures": 6}
    return replace(changed.ending(**policy), folder=folder, slots=case.slots, runner=FailingRunner(case))


def enqueue(study, count):
    drawn, plans = random.Random(count), study.plans()
    with closing(Study.open(study.space)) as opened:
        for _ in range(count):
            opened.enqueue(plans.parameters(plans.random(drawn)), "by hand")


def run(study, drivers, stop=None):
    """The ends of the drivers of one run of `vitsearch run` each, on one loop; of those that stop, None."""

    async def drive():
        tasks = [asyncio.ensure_future(study._drive(ledger, retry_failed=False)) for ledger in ledgers]
        if stop is not None:
            stages = itertools.count(1)
            before = study.runner.before

            def stop_after(job):
                if next(stages) == stop.after:
                    tasks[0].cancel()
                before(job)

            study.runner.before = stop_after
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return [None if isinstance(end, asyncio.CancelledError) else end for end in ended]

    with ExitStack() as opened:
        ledgers = [opened.enter_context(closing(Ledger.open(study.space.storage))) for _ in range(drivers)]
        for ledger in ledgers:
            ledger.costs.start_run(study.space.study, 1)
        ends = virtual_time.run(drive())
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends


def take_over(study):
    """What the next driver does with the trials of a driver that was killed, when it has been silent for long."""
    with closing(Study.change_existing(study.space.storage, study.space.study)) as other:
        with other._view._engine.begin() as connection:
            connection.execute(text("UPDATE vs_trial SET beat_at = 0"))
        without_patience(other).recover()


async def leaves_all_open(self):
    """A killed driver puts nothing back."""
    for task in self._open:
        task.cancel()
    await asyncio.gather(*self._open, return_exceptions=True)


def check_that_every_run_ends(make_study, case):
    study = study_of(make_study, case)
    enqueue(study, case.in_queue)
    for stop in case.stops:
        study = replace(study, runner=FailingRunner(case))
        with pytest.MonkeyPatch.context() as patch:
            if stop.kills:
                patch.setattr(Driver, "_put_back", leaves_all_open)
            run(study, 1, stop)
        take_over(study)
        study = study.with_space(search__trials=stop.trials)
        enqueue(study, stop.more_in_queue)
    ends = run(replace(study, runner=FailingRunner(case)), case.drivers)
    assert all(end.reason for end in ends)
    with study.opened() as (opened, _):
        assert opened.unfinished() == 0
    assert study.trained <= max([case.trials, *(stop.trials for stop in case.stops)])


MORE_QUEUED_THAN_TRAININGS = Case(candidates=1, in_queue=12)
LEFT_IN_TRAINING = Case(trials=1, in_queue=8, stops=(Stop(after=18, kills=False, more_in_queue=8, trials=1),))
FEWER_WANTED_THAN_LEFT_IN_TRAINING = Case(
    trials=2, slots=2, candidates=1, sampler="auto", in_queue=6, stops=(Stop(10, False, 4, 1),)
)
ALL_FAIL = Case(candidates=4, fails=1.0, failing=(ScreenJob,), in_queue=4)


@pytest.mark.parametrize(
    "case",
    [
        MORE_QUEUED_THAN_TRAININGS,
        LEFT_IN_TRAINING,
        FEWER_WANTED_THAN_LEFT_IN_TRAINING,
        replace(FEWER_WANTED_THAN_LEFT_IN_TRAINING, drivers=2),
        ALL_FAIL,
    ],
)
def test_a_run_ends(make_study, case):
    check_that_every_run_ends(make_study, case)


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(case=CASES)
@example(case=replace(MORE_QUEUED_THAN_TRAININGS, drivers=2, slots=2))
def test_every_run_ends(make_study, case):
    check_that_every_run_ends(make_study, case)


def test_the_virtual_clock_shows_what_waits_for_ever():
    async def wait_for_ever():
        while True:
            await asyncio.sleep(1.0)

    with pytest.raises(virtual_time.WaitsForEver):
        virtual_time.run(wait_for_ever(), limit_s=100.0)
