"""Measures the models of a study on another device, one by one, until no other is likely to be on the front there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from vitsearch.core.figures import Metrics
from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.metrics import is_quality
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.devices.agent_device import refuse_unmetered
from vitsearch.errors import ResourceError, StageError, StudyError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.search.final_pass import FinalPass
from vitsearch.search.goals import Goals
from vitsearch.search.retarget.candidates import Finder, RetargetCandidate
from vitsearch.search.retarget.state import RetargetState
from vitsearch.search.retarget.transfer_model import TransferModel
from vitsearch.search.unpruned_models import refuse_unmeasured
from vitsearch.storage.ledger import Ledger
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.front import read_front
from vitsearch.study.results.detail import baseline_record
from vitsearch.study.retargeted import Retargeted, Target
from vitsearch.study.study import Study


class RetargetLoop:
    """Measures the models of a study on the device of `pipeline`. Each result is stored before the next is asked for,
    and what the ledger has is looked up, so the same call resumes."""

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        pipeline: Pipeline,
        target: Target,
        refused: Callable[[Plan], str | None],
    ) -> None:
        own = study.space()
        self._study = study
        self._ledger = ledger
        self._pipeline = pipeline
        self._progress = pipeline.context.progress
        self._space = target.space(own)
        figures = CurrentFigures(ledger, study.fleets)
        self._finder = Finder(pipeline, target, refused, partial(_here, figures))
        info = pipeline.device.info
        self._result = Retargeted(target, info.kind, pipeline.protocols.confirm.id)

    async def run(self, every: bool = False) -> Retargeted:
        device, metric_names = self._pipeline.device, [*self._space.objectives, *self._space.limits]
        refuse_unmetered(device.name, device.info, metric_names)
        self._progress.note("looking for the models that can run there; the baseline is measured first")
        baseline = await self._finder.baseline(baseline_record(self._study))
        models, left_out = await self._finder.models(self._study.records())
        self._refuse_nothing(models, left_out)
        metrics = await self._measure(baseline)
        self._progress.note(f"the baseline is measured; {len(models)} models can run there")
        refuse_unmeasured(device.name, metric_names, metrics)
        self._result = replace(self._result, left_out=left_out)
        state = await self._measure_models(self._start([baseline, *models], metrics), every)
        read = partial(read_front, self._study, self._ledger, self._result.target.name)
        await FinalPass(self._pipeline, lambda: self._result.models, read, _left).run()
        state = self._look(state)
        self._result = replace(self._result, predictions=state.predictions(), fits=state.fits())
        self._save(state)
        return self._result

    def _refuse_nothing(self, models: Collection[RetargetCandidate], left_out: Mapping[int, str]) -> None:
        if models:
            return
        name, target = self._study.name, self._result.target.name
        if not left_out:
            raise StudyError(f"study {name!r} has no finished model yet: 'vitsearch status' says how far it is")
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise ResourceError(f"no model of study {name!r} can run on {target}: {reasons}")

    def _start(self, candidates: list[RetargetCandidate], baseline: Metrics) -> RetargetState:
        """What is known once the baseline is measured: the limits, and graphs that the ledger has."""
        objectives, limits = tuple(self._space.objectives), bounds(self._space.limits, baseline.values)
        reference = loss(objectives, reference_values(objectives, limits, baseline.values, self._space.run_sizes))
        assert reference is not None
        costs = [name for name in dict.fromkeys([*objectives, *self._space.limits]) if not is_quality(name)]
        predictors = {name: TransferModel([candidate.graph(name) for candidate in candidates]) for name in costs}
        return self._look(
            RetargetState(Goals(objectives, limits, reference, baseline=baseline), predictors, candidates, [])
        )

    def _look(self, state: RetargetState) -> RetargetState:
        """What is known now."""
        return replace(state, metrics=[self._metrics(candidate) for candidate in state.candidates])

    def _metrics(self, candidate: RetargetCandidate) -> Metrics:
        return self._pipeline.device_metrics(candidate.keys) | self._pipeline.file_metrics(candidate.keys)

    async def _measure_models(self, state: RetargetState, every: bool) -> RetargetState:
        """Measure until no model is likely to be on the front. A model that fails is left out."""
        self._save(state)
        while (index := _next(state, every)) is not None:
            candidate = state.candidates[index]
            try:
                await self._measure(candidate)
            except StageError as error:
                state = replace(state, failed=state.failed | {index})
                self._leave_out(candidate, str(error))
                continue
            before, state = state, self._look(state)
            if not state.is_measured(index):  # it would be asked for again and again
                state = replace(state, failed=state.failed | {index})
                self._leave_out(candidate, _why_unmeasured(state, index))
                continue
            self._save(state)
            counted = f"{len(self._result.models)} of {len(state.candidates) - 1}"
            self._progress.note(f"{counted}  {plan_text(candidate.plan)}  {_costs(before, state, index)}")
        return state

    def _leave_out(self, candidate: RetargetCandidate, reason: str) -> None:
        assert candidate.trial is not None  # without its baseline nothing is judged
        self._result = replace(self._result, left_out={**self._result.left_out, candidate.trial: reason})
        self._progress.note(f"{candidate.name} is left out: {reason}")

    async def _measure(self, candidate: RetargetCandidate) -> Metrics:
        _, metrics = await self._pipeline.confirm(await self._pipeline.resolve(candidate.plan), candidate.rung)
        return metrics

    def _save(self, state: RetargetState) -> None:
        """Store the models that are measured, with what is known of them now."""
        models: dict[int, Record] = {}
        for index, candidate in enumerate(state.candidates):
            if candidate.trial is not None and state.is_measured(index):
                models[candidate.trial] = candidate.measured(state.metrics[index])
        baseline = state.candidates[0].measured(state.metrics[0])
        self._result = replace(self._result, baseline=baseline, models=models)
        self._result.save(self._study)


def _why_unmeasured(state: RetargetState, index: int) -> str:
    metrics = state.metrics[index]
    missing = [name for name in state.goals.objectives if metrics.value(name) is None]
    reasons = (metrics.reasons.get(name, "the device does not report it") for name in missing)
    return "; ".join(f"{name}: {reason}" for name, reason in zip(missing, reasons, strict=True))


def _next(state: RetargetState, every: bool) -> int | None:
    """The model to measure next; None when no other is likely to be on the front, or with `every` when none is
    left."""
    index = state.next()
    return state.best(state.open) if index is None and every and state.open else index


def _here(figures: CurrentFigures, record: Record) -> Metrics:
    return figures.now(record)[0]


def _left(models: int) -> str:
    return f"{models} left"


def _costs(before: RetargetState, now: RetargetState, index: int) -> str:
    """The costs that were measured, each with what it was predicted to be."""
    parts = []
    for name in before.predictors:
        value = now.metrics[index].value(name)
        low, high = before.interval(name, index)
        parts.append(
            f"{name} not measured" if value is None else f"{name} {value:.4g} (predicted {low:.3g} to {high:.3g})"
        )
    return ", ".join(parts)
