"""One ``vitsearch run``: baseline, leaderboard, search, and the front measured once more when it is quiet.

Asks Optuna, starts a trial as a task of the event loop, tells Optuna. Trials overlap: while one is
trained, the next are built, measured and given their signal. Stopping at any point loses no stage.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Plan, cut_text
from vitsearch.core.progress import Progress
from vitsearch.core.record import Record
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.pipeline import Measured, Pipeline
from vitsearch.search.outage import Watch
from vitsearch.search.scheduler import Rules, TrialScheduler
from vitsearch.search.trial import run_trial
from vitsearch.space import SearchSpace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Point, read_front
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Asked, Study

logger = logging.getLogger(__name__)

BEAT_S = 30.0
POLL_S = 0.25
WAITING_FOR_DEVICE = 4
"""While the device is away no more plans are asked for than so many that wait for it: the sampler would be blind."""
SCREENS_IN_A_ROW = 40
"""So many trials in a row without one that was trained end the search: nothing left promises a gain."""
UNPROMISING = frozenset({"infeasible", "dominated", "duplicate", "not_promoted", "off_space", "does_not_fit"})


@dataclass(frozen=True)
class Ended:
    """Why the search stopped, in words, and whether it is complete."""

    reason: str
    complete: bool


@dataclass(frozen=True)
class Session:
    """What one run works with. ``slots``: so many plans are trained at the same time."""

    space: SearchSpace
    study: Study
    ledger: Ledger
    pipeline: Pipeline
    plans: PlanSpace
    me: DriverId
    slots: int
    progress: Progress


class Driver:
    """Drives one session to its end."""

    def __init__(self, session: Session) -> None:
        self._space = session.space
        self._study = session.study
        self._ledger = session.ledger
        self._slots = session.slots
        self._pipeline = session.pipeline
        self._plans = session.plans
        self._driver = session.me
        self._progress = session.progress
        self._open: dict[asyncio.Task[Record], Asked] = {}
        self._started = time.monotonic()
        self._in_a_row = 0
        self._unseen = random.Random(session.space.search.seed)

    async def run(self, retry_failed: bool = False) -> Ended:
        self._pipeline.single_flight.drop_dead()
        self._study.remember("protocol", self._pipeline.protocols.confirm.id)
        beating, watching = asyncio.create_task(self._beat()), asyncio.create_task(self._watch())
        try:
            baseline = await self._baseline()
            await self._leaderboard()
            self._scheduler = self._make_scheduler(baseline)
            if retry_failed:
                self._retry_failed()
            ended = await self._search()
            await self._measure_front()
            return ended
        finally:
            beating.cancel()
            watching.cancel()
            await asyncio.gather(beating, watching, return_exceptions=True)
            await self._put_back()

    # ---- before the search

    async def _baseline(self) -> Measured:
        """The unpruned fp32 model, measured and scored like a trial; relative limits refer to it."""
        plan = self._plans.baseline()
        found = await self._measure_unpruned(plan, "baseline")
        self._refuse_unmeasured(found)
        self._study.remember(
            "baseline",
            {
                "plan": plan.to_json(),
                "keys": found.keys.__dict__,
                "values": found.values,
                "errors": {name: list(pair) for name, pair in found.errors.items()},
            },
        )
        return found

    def _refuse_unmeasured(self, baseline: Measured) -> None:
        """What this device cannot measure can be neither an objective nor a limit."""
        asked = dict.fromkeys([*self._space.objectives, *self._space.limits])
        missing = [name for name in asked if baseline.values.get(name) is None]
        if missing:
            raise StudyError(
                f"device {self._plans.device} does not measure {', '.join(missing)}: take it out of the objectives and "
                f"limits; it measures {', '.join(name for name, value in baseline.values.items() if value is not None)}"
            )

    async def _leaderboard(self) -> None:
        """Every backbone, unpruned, at every precision and runtime: exported, measured and scored, not tuned."""
        scheduler = []
        for plan in self._plans.leaderboard():
            try:
                found = await self._measure_unpruned(plan, "leaderboard")
            except StageError as error:  # one model that fails here is no reason to stop; as a trial it is recorded
                self._progress.note(f"leaderboard: {cut_text(plan)}  {error}")
            else:
                scheduler.append({"plan": plan.to_json(), "values": found.values})
            if self._plans.contains(plan):
                self._study.enqueue(self._plans.parameters(plan), "leaderboard")
        self._study.remember("leaderboard", scheduler)

    async def _measure_unpruned(self, plan: Plan, what: str) -> Measured:
        trial = await self._pipeline.prepare(plan)
        found = await self._pipeline.confirm(trial, 0)
        self._note_leader(plan, found.values, what)
        return found

    def _note_leader(self, plan: Plan, values: Mapping[str, float | None], what: str) -> None:
        names = [*self._space.objectives, "size_mb"]
        shown = "  ".join(f"{name} {value:.4g}" for name in names if (value := values.get(name)) is not None)
        self._progress.note(f"{what}: {cut_text(plan)}  {shown}")

    def _make_scheduler(self, baseline: Measured) -> TrialScheduler:
        objectives = tuple(self._space.objectives)
        limits = bounds(self._space.limits, baseline.values)
        corner = self._study.attributes.get("reference_point") or reference_values(objectives, limits, baseline.values)
        self._study.remember("reference_point", dict(corner))
        reference = loss(objectives, corner)
        assert reference is not None
        search = self._space.search
        rules = Rules(
            objectives,
            limits,
            reference,
            search.margin,
            search.candidates,
            self._slots,
            search.trials,
            baseline.values,
        )
        return TrialScheduler(
            rules, self._study.records(), self._pipeline.base_accuracy, lambda: self._pipeline.device.is_unavailable
        )

    # ---- the search

    async def _search(self) -> Ended:
        wanted = self._space.search.trials
        self._requeue()
        while True:
            if reason := self._stop_asking():
                await self._finish_open()
                complete = self._scheduler.trained >= wanted
                return Ended(reason, complete)
            while self._may_ask() and not self._stop_asking():
                self._start(self._study.ask(self._plans, self._driver))
            await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED, timeout=POLL_S)
            self._collect()
            self._scheduler.choose()  # the device may have gone or come back

    def _stop_asking(self) -> str | None:
        search, scheduler = self._space.search, self._scheduler
        if scheduler.trained >= search.trials:
            return f"{search.trials} plans are trained"
        if search.timeout_s is not None and time.monotonic() - self._started > search.timeout_s:
            return f"the time limit of {search.timeout_s:g} s is reached"
        if self._in_a_row >= SCREENS_IN_A_ROW:
            return f"{SCREENS_IN_A_ROW} plans in a row promised no gain: the front looks finished"
        return None

    def _may_ask(self) -> bool:
        """Keep one full round on its way for each place that trains, and no more; none for what is trained last."""
        scheduler, rules = self._scheduler, self._scheduler.rules
        if scheduler.trained + scheduler.in_training >= rules.wanted:
            return False
        if self._pipeline.device.is_unavailable and self._sampler_is_starved():
            return False
        before_training = len(self._open) - scheduler.in_training
        return before_training - scheduler.losers_waiting < rules.candidates * rules.slots

    def _sampler_is_starved(self) -> bool:
        """Whether what was asked for without the device is enough: it waits, or was known and promised nothing."""
        in_rungs = self._scheduler.in_training - self._scheduler.confirming
        waiting = len(self._open) - self._scheduler.competing - in_rungs
        return waiting >= WAITING_FOR_DEVICE or self._in_a_row >= SCREENS_IN_A_ROW // 2

    def _start(self, asked: Asked) -> None:
        if asked.record is not None:
            self._tell(asked, asked.record)
            return
        task = asyncio.ensure_future(run_trial(asked.number, asked.plan, self._pipeline, self._scheduler))
        self._open[task] = asked

    def _collect(self) -> None:
        for task in [task for task in self._open if task.done()]:
            asked = self._open.pop(task)
            try:
                record = task.result()
            except BaseException:
                self._scheduler.forget(asked.number)
                self._study.release(asked)
                raise
            self._tell(asked, record)

    def _tell(self, asked: Asked, record: Record) -> None:
        self._study.tell(asked, record)
        self._scheduler.add(asked.number, record)
        dull = record.outcome in UNPROMISING or record.duplicate_of is not None
        self._in_a_row = self._in_a_row + 1 if dull else 0
        if record.duplicate_of is not None and self._in_a_row >= self._space.search.duplicates_in_a_row:
            self._enqueue_unseen()
        self._progress.ended(asked.number, record, self._scheduler.trained, self._space.search.trials)

    def _enqueue_unseen(self) -> None:
        """The sampler repeats itself: ask for a plan that nobody asked for yet."""
        seen = {record.plan for record in self._scheduler.records.values()}
        for _ in range(200):
            plan = self._plans.random(self._unseen)
            if plan not in seen:
                self._study.enqueue(self._plans.parameters(plan), "the sampler repeated itself")
                return

    def _retry_failed(self) -> None:
        for plan in self._scheduler.forget_failures():
            if self._plans.contains(plan):
                self._study.enqueue(self._plans.parameters(plan), "it had failed", again=True)

    def _requeue(self) -> None:
        """Trials that were put aside and that today's limits, cap or front would take are asked again."""
        scheduler, search = self._scheduler, self._space.search
        taken = {record.plan for record in scheduler.records.values() if record.trained}
        gains = {
            record.plan: scheduler.expected_gain(record)
            for record in scheduler.records.values()
            if record.plan not in taken and self._plans.contains(record.plan)
        }
        wanted = max(0, search.trials - scheduler.trained) * search.candidates
        promising = sorted((plan for plan, gain in gains.items() if gain > 0.0), key=lambda plan: -gains[plan])
        for plan in promising[:wanted]:
            self._study.enqueue(self._plans.parameters(plan), "limits or front have changed", again=True)

    async def _finish_open(self) -> None:
        """No new trials: those in training finish, those that wait are let go."""
        self._scheduler.closed = True
        self._scheduler.choose()
        while self._open:
            await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
            self._collect()
            self._scheduler.choose()

    # ---- after the search

    async def _measure_front(self) -> None:
        """One after the other, with nothing else running, until every point shown was measured in quiet."""
        trained = [record.plan for record in self._study.records().values() if record.trained]
        shown = [point.plan for point in read_front(self._study, self._ledger).shown()]
        await self._pipeline.prepare_subsets(plan.resolution for plan in [*trained, *shown])
        self._pipeline.quiet()
        measured: set[str] = set()
        while todo := [point for point in read_front(self._study, self._ledger).shown() if point.name not in measured]:
            for point in todo:
                measured.add(point.name)
                if await self._pipeline.remeasure_when_idle(point.keys, point.plan):
                    self._progress.note(f"{point.name} measured once more, in quiet")
        for point in read_front(self._study, self._ledger).shown():
            await self._judge_on_device(point)

    async def _judge_on_device(self, point: Point) -> None:
        """A device that cannot is told of and no reason to fail: the worker judged the same file."""
        try:
            found = await self._pipeline.accuracy_on_device(point.keys, point.plan)
        except StageError as error:
            self._progress.note(f"{point.name} was not judged on the device: {error}")
            return
        if found is not None:
            self._progress.note(f"{point.name} classifies {found.correct} of {found.n} images right on the device")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                self._pipeline.single_flight.renew()
                self._study.beat(list(self._open.values()))
                self._study.recover()
            except Exception as error:  # noqa: BLE001 - whatever the database said, the next beat makes up for it
                logger.warning("the database missed a heartbeat: %s", error)

    async def _watch(self) -> None:
        watch = Watch(self._pipeline, self._study, self._driver, self._progress)
        await watch.keep(list(self._plans.leaderboard()), lambda: [asked.plan for asked in self._open.values()])

    async def _put_back(self) -> None:
        """Trials that are still open go back to the queue with their number; their stages are ended."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._pipeline.single_flight.stop()
        for asked in self._open.values():
            self._study.release(asked)
        self._open.clear()
