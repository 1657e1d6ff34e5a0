"""At the end the front is re-measured while the run trains nothing, and evaluated on the device itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from vitsearch.core.plan import plan_text
from vitsearch.core.record import Record
from vitsearch.errors import StageError
from vitsearch.pipeline.measure import final_confirmations
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import REMEASURED
from vitsearch.pipeline.resolved_trial import KeyedModel
from vitsearch.study.front import Front, Point


class FinalPass:
    """Re-measures and evaluates a front. `records` gives those of all trials, to which other drivers may add while
    this works, `read_front` the front by what is measured then, and `left` the time left in words when some models
    are still to be re-measured."""

    def __init__(
        self,
        pipeline: Pipeline,
        records: Callable[[], Mapping[int, Record]],
        read_front: Callable[[], Front],
        left: Callable[[int], str],
    ) -> None:
        self._pipeline = pipeline
        self._progress = pipeline.context.progress
        self._records = records
        self._read_front = read_front
        self._left = left

    async def run(self) -> None:
        """Re-measure without workers, as many points at a time as there are boards: those on the front, then those
        that their intervals leave near it by then. What is not settled by that is measured once more when all others
        are, as its next measurement has to be of another minute."""
        trained = [record.plan for record in self._records().values() if record.is_confirmed]
        shown = [point.plan for point in self._read_front().shown()]
        await self._pipeline.prepare_subsets([*trained, *shown])
        await self._restore()
        self._pipeline.stop_workers()
        measured: set[str] = set()
        renewed: set[str] = set()
        model_names: set[str] = set()
        is_said = True
        while todo := self._todo(measured, model_names):
            before, points = len(model_names) - len(todo), todo[: self._pipeline.device.parallel]
            self._count(len(model_names), len(todo))
            measured.update(point.name for point in points)
            outcomes = await asyncio.gather(*map(self._remeasure, points))
            todo = self._todo(measured, model_names)
            for number, (point, is_said) in enumerate(zip(points, outcomes, strict=True), before + 1):
                if is_said:
                    renewed.add(point.name)
                    done = f"{REMEASURED} {number}/{len(model_names)}: {self._described(point)}"
                    self._progress.note(f"{done}  [{self._left(len(todo))}]" if todo else done)
            if (dropped := len(model_names) - len(todo) - before - len(points)) > 0:
                done = f"{REMEASURED} {len(model_names) - len(todo)}/{len(model_names)}"
                self._progress.note(f"{done}: {dropped} no longer near the front")
                is_said = True
        if renewed and not is_said:
            self._progress.note(f"{REMEASURED} {len(model_names)}/{len(model_names)}")
        self._progress.counted(REMEASURED, len(model_names), len(model_names))
        again = [point for point in self._near() if point.name in renewed]
        for number, point in enumerate(again, 1):
            if await self._remeasure(point):
                self._progress.note(f"re-measured again {number}/{len(again)}: {self._described(point)}")
        for point in self._read_front().shown():
            names = [device.name for device in self._pipeline.device.devices]
            await asyncio.gather(*(self._evaluate_on(name, point) for name in names))

    def _described(self, point: Point) -> str:
        """A model, and how much other work there was while it was measured: this run has stopped its own workers, but
        others may use the machine."""
        waited = self._pipeline.waited(point.keys)
        return point.name if waited is None else f"{point.name}, which waited for a core {waited:.0%} of its CPU time"

    async def _remeasure(self, point: Point) -> bool:
        """If the device cannot measure the file any more, note that and continue: it keeps what was measured before."""
        record = None if point.trial is None else self._records()[point.trial]
        try:
            return await self._pipeline.remeasure(KeyedModel(point.plan, point.keys), final_confirmations(record))
        except StageError as error:
            self._progress.note(f"{point.name} ({plan_text(point.plan)}) was not measured again: {error}")
            return False

    def _todo(self, measured: set[str], model_names: set[str]) -> list[Point]:
        """What is still to be measured; `model_names` gets the names of all that ever were, so that a count goes to
        its end also where a model has left the neighbourhood of the front meanwhile."""
        todo = [point for point in self._near() if point.name not in measured]
        model_names.update(point.name for point in todo)
        return todo

    def _count(self, total: int, todo: int) -> None:
        self._progress.counted(REMEASURED, total - todo, total)
        self._progress.left(self._left(todo))

    def _near(self) -> list[Point]:
        """The front and then what is near it, each with what was measured longest ago first."""
        front = self._read_front()

        def long_ago(points: Iterable[Point]) -> list[Point]:
            return sorted(points, key=lambda point: self._pipeline.last_measured(point.keys))

        return [*long_ago(front.shown()), *long_ago(front.near)]

    async def _restore(self) -> None:
        """Make exported models again whose files are gone; what cannot be made is not re-measured."""
        for number, record in self._records().items():
            try:
                if record.is_confirmed and record.keys is not None:
                    await self._pipeline.restore(KeyedModel(record.plan, record.keys), record.rung)
            except StageError as error:
                model = f"trial {number} ({plan_text(record.plan)})"
                self._progress.note(f"{model}: its file is gone and cannot be made again: {error}")

    async def _evaluate_on(self, device: str, point: Point) -> None:
        """If the device cannot evaluate the file, note that and continue: the worker has evaluated it."""
        where = "the device" if self._pipeline.fleet is None else f"device {device}"
        try:
            evaluation = await self._pipeline.accuracy_on_device(device, KeyedModel(point.plan, point.keys))
        except StageError as error:
            self._progress.note(f"{point.name} ({plan_text(point.plan)}) was not evaluated on {where}: {error}")
            return
        if evaluation is not None:
            name = self._pipeline.config.task.metrics[0].name
            value = evaluation.metrics.value(name)
            if value is None:
                reason = evaluation.metrics.reasons.get(name, "the task gave no reason")
                self._progress.note(f"{point.name} has no {name} on {where}: {reason}")
            else:
                self._progress.note(f"{point.name} has {name} {value:.4f} on {evaluation.n} images on {where}")
