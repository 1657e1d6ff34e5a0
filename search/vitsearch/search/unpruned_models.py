"""The unpruned models of a study: the baseline, and the leaderboard of every backbone, precision and runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import is_quality
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.precisions import TRAINED
from vitsearch.core.record import Keys
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import BASES, LEADERBOARD, Progress
from vitsearch.pipeline.resolved_trial import ResolvedTrial
from vitsearch.search.form_finder import FormFinder
from vitsearch.search.plan_requests import LeaderboardEntry, lost_beside_fp32, stored_leaders
from vitsearch.search.posterior import Lost
from vitsearch.search.session import Session
from vitsearch.search.together import together
from vitsearch.study.file_forms import FileForms
from vitsearch.study.places import Places
from vitsearch.study.sampling import PlanSpace, Unpruned
from vitsearch.tasks import Tally

MakeArtifact = Callable[[ResolvedTrial, int], Awaitable[tuple[Keys, Metrics]]]
"""A stage of the pipeline that makes the file after a rung and measures it."""


def report_unpruned(progress: Progress, plans: PlanSpace, leaders: Collection[Plan], bases: Iterable[str] = ()) -> None:
    """Show how many bases and leaderboard rows there are: those of `leaders`, and the bases named in `bases`."""
    wanted = list(plans.leaderboard())
    backbones = {plan.backbone for plan in (plans.baseline(), *wanted)}
    ready = backbones & {*bases, *(plan.backbone for plan in leaders)}
    progress.counted(BASES, len(ready), len(backbones))
    progress.counted(LEADERBOARD, sum(plan in leaders for plan in wanted), len(wanted))


def refuse_unmeasured(device: str, metric_names: Iterable[str], baseline: Metrics) -> None:
    """What a device cannot measure of the baseline, or the task does not give, can be neither an objective nor a
    limit."""
    missing = [name for name in dict.fromkeys(metric_names) if baseline.value(name) is None]
    if missing:
        reasons = "; ".join(f"{name}: {baseline.reasons.get(name, 'it is not measured')}" for name in missing)
        if qualities := [name for name in missing if is_quality(name)]:
            why = "; ".join(
                f"{name}: {baseline.reasons.get(name, 'judge gives no figure of it')}" for name in qualities
            )
            raise StudyError(f"the task has no value of {', '.join(qualities)} for the baseline ({why})")
        measured = ", ".join(name for name, value in baseline.values.items() if value is not None)
        raise StudyError(
            f"device {device} does not measure {', '.join(missing)} ({reasons}): remove it from the objectives and "
            f"limits; the device measures {measured}"
        )


class UnprunedModels:
    """Confirms the baseline and the leaderboard, before the search of a run."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace, forms: FileForms) -> None:
        self._space = session.space
        self._study = session.study
        self._ledger = session.ledger
        self._progress = session.progress
        self._pipeline = pipeline
        self._plans = plans
        self._finder = FormFinder(session, pipeline, plans, forms)
        self._rows = stored_leaders(session.study)
        self._done = set(self._rows)

    def _count(self) -> None:
        report_unpruned(self._progress, self._plans, self._done, self._pipeline.bases)

    @asynccontextmanager
    async def bases_ahead(self) -> AsyncIterator[None]:
        """Train the bases of all backbones inside this context, as workers are free: the device waits for the baseline
        alone, and no worker for the device. The leaderboard says what fails."""
        firsts = {plan.backbone: plan for plan in reversed(list(self._plans.leaderboard()))}
        baseline = self._plans.baseline().backbone
        ahead = [asyncio.create_task(self._base(plan)) for name, plan in firsts.items() if name != baseline]
        try:
            yield
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _base(self, plan: Plan) -> None:
        with suppress(StageError):
            await self._pipeline.resolve(plan)
            self._count()

    async def baseline(self) -> Metrics:
        """Measure and evaluate the unpruned fp32 model like a trial; relative limits refer to it."""
        self._count()
        await self._finder.find(self._plans.baseline_model())
        plan = self._plans.baseline()
        try:
            keys, metrics = await self._make(plan, "baseline", self._pipeline.confirm)
        except StageError as error:
            raise error.about(f"the baseline, {plan_text(plan)}") from error
        refuse_unmeasured(self._plans.device, [*self._space.objectives, *self._space.limits], metrics)
        self._note_quality(keys)
        self._study.remember("baseline", {"plan": plan.to_json(), "keys": vars(keys), "metrics": metrics.to_json()})
        return metrics

    async def leaderboard(self) -> dict[Plan, LeaderboardEntry]:
        """Export, screen and evaluate every unpruned backbone at every precision and runtime, without training: the
        workers make the files of the next while the device measures one. What is on the front at the end is confirmed
        then.

        Returns those that are complete: all but those whose precision is trained for.
        """
        plans = self._plans
        runs = [(model, run) for model in plans.unpruned_models() for run in plans.measured_runs(model)]
        leaders = await together(self._lead(model, run) for model, run in runs)
        places = Places(plans)
        for plan, _ in leaders:
            if plans.contains(plan):
                self._study.enqueue_untried(places, plan, "leaderboard")
        return {
            plan: leader for plan, leader in leaders if leader is not None and plan.deployment.precision not in TRAINED
        }

    async def lost_beside_fp32(self, plan: Plan) -> Lost:
        """What the unpruned model of a plan loses in its deployment beside fp32, where the space has both. No device is
        asked but for the form of the files. One whose export fails is said and counts as unknown."""
        models = self._models_beside(plan)
        leaders = {}
        for model in models if len(models) > 1 else ():
            await self._finder.find(model)
            unpruned = self._plans.unpruned(model, **self._plans.run_of(plan.deployment))
            try:
                trial = await self._pipeline.resolve(unpruned)
                await self._pipeline.export(trial, 0)
            except StageError as error:
                self._progress.note(f"{plan_text(unpruned)}: {error}")
            else:
                metrics = self._pipeline.file_metrics(trial.exported(0))
                leaders[unpruned.backbone, unpruned.deployment] = metrics
        return lost_beside_fp32(leaders)

    def _models_beside(self, plan: Plan) -> list[Unpruned]:
        """The leaders of the deployment of a plan and of fp32 in the same runtime; nothing for a trained precision."""
        runtime, provider, precision = plan.deployment.runtime, plan.deployment.provider, plan.deployment.precision
        if precision in TRAINED:
            return []
        beside = {Unpruned(plan.backbone, runtime, provider, each) for each in (precision, "fp32")}
        return [model for model in self._plans.unpruned_models() if model in beside]

    async def _lead(self, model: Unpruned, run: Mapping[str, str]) -> tuple[Plan, LeaderboardEntry | None]:
        """Make one model of the leaderboard, in the batch and threads of `run`. One that fails here does not end the
        search; as a trial it is recorded."""
        await self._finder.find(model)
        plan, leader = self._plans.unpruned(model, **run), None
        try:
            keys, metrics = await self._make(plan, "leaderboard", self._pipeline.evaluate)
        except StageError as error:
            self._progress.note(f"leaderboard: {plan_text(plan)}  {error}")
        else:
            leader = LeaderboardEntry(keys, metrics, self._pipeline.shares(keys))
            self._rows[plan] = {"plan": plan.to_json(), "shares": leader.shares, **metrics.to_json()}
            self._study.remember("leaderboard", self._sorted_rows())
        self._done.add(plan)
        self._count()
        return plan, leader

    def _sorted_rows(self) -> list[dict[str, Any]]:
        """The rows of the leaderboard by now, in its own order."""
        return [self._rows[plan] for plan in self._plans.leaderboard() if plan in self._rows]

    async def _make(self, plan: Plan, what: str, make: MakeArtifact) -> tuple[Keys, Metrics]:
        """Export, evaluate and measure a plan without training."""
        trial = await self._pipeline.resolve(plan)
        self._count()
        keys, metrics = await make(trial, 0)
        self._note_leader(plan, metrics, what)
        return keys, metrics

    def _note_quality(self, keys: Keys) -> None:
        """Say once what the task has against the figures of the baseline, to which limits refer."""
        data, config = self._study.attributes.get("data") or {}, self._pipeline.config
        evaluated = self._ledger.evaluation(keys.artifact_key or "", config.judged_by)
        if evaluated is not None:
            for line in Tally(config.task, evaluated.tally, data["class_names"]).warnings("the baseline"):
                self._progress.note(line)

    def _note_leader(self, plan: Plan, metrics: Metrics, what: str) -> None:
        names = dict.fromkeys([*self._space.objectives, "size_mb"])
        shown = "  ".join(f"{name} {value:.4g}" for name in names if (value := metrics.value(name)) is not None)
        notes = "; ".join(metrics.notes.values())
        self._progress.note("  ".join(part for part in (f"{what}: {plan_text(plan)}", shown, notes) if part))
