"""The unpruned models of a study: the baseline, and the leaderboard of every backbone, precision and runtime."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Keys
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import BASES, LEADERBOARD, Progress
from vitsearch.search.session import Session
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study


def stored_leaders(study: Study) -> set[Plan]:
    """The plans of the leaderboard that earlier runs have finished."""
    return {Plan.from_json(row["plan"]) for row in study.attributes.get("leaderboard", [])}


def report_unpruned(progress: Progress, plans: PlanSpace, leaders: Collection[Plan], bases: Iterable[str] = ()) -> None:
    """Show how many bases and leaderboard rows there are: those of ``leaders``, and the bases named in ``bases``."""
    wanted = list(plans.leaderboard())
    backbones = {plan.backbone for plan in (plans.baseline(), *wanted)}
    ready = backbones & {*bases, *(plan.backbone for plan in leaders)}
    progress.counted(BASES, len(ready), len(backbones))
    progress.counted(LEADERBOARD, sum(plan in leaders for plan in wanted), len(wanted))


class UnprunedModels:
    """Confirms the baseline and the leaderboard, before the search of a run."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace) -> None:
        self._space = session.space
        self._study = session.study
        self._progress = session.progress
        self._pipeline = pipeline
        self._plans = plans
        self._done = stored_leaders(session.study)

    def _count(self) -> None:
        report_unpruned(self._progress, self._plans, self._done, self._pipeline.base_accuracy)

    async def baseline(self) -> Metrics:
        """Measure and evaluate the unpruned fp32 model like a trial; relative limits refer to it."""
        self._count()
        plan = self._plans.baseline()
        keys, metrics = await self._confirm_unpruned(plan, "baseline")
        self._refuse_unmeasured(metrics)
        self._study.remember("baseline", {"plan": plan.to_json(), "keys": vars(keys), "metrics": metrics.to_json()})
        return metrics

    def _refuse_unmeasured(self, baseline: Metrics) -> None:
        """What this device cannot measure can be neither an objective nor a limit."""
        asked = dict.fromkeys([*self._space.objectives, *self._space.limits])
        missing = [name for name in asked if baseline.value(name) is None]
        if missing:
            reasons = "; ".join(f"{name}: {baseline.reasons.get(name, 'it is not measured')}" for name in missing)
            measured = ", ".join(name for name, value in baseline.values.items() if value is not None)
            raise StudyError(
                f"device {self._plans.device} does not measure {', '.join(missing)} ({reasons}): remove it from the "
                f"objectives and limits; the device measures {measured}"
            )

    async def leaderboard(self) -> None:
        """Export, measure and evaluate every unpruned backbone at every precision and runtime, without training."""
        leaders = []
        for plan in self._plans.leaderboard():
            try:
                _, metrics = await self._confirm_unpruned(plan, "leaderboard")
            except StageError as error:  # one model that fails here does not end the run; as a trial it is recorded
                self._progress.note(f"leaderboard: {plan_text(plan)}  {error}")
            else:
                leaders.append({"plan": plan.to_json(), **metrics.to_json()})
            if self._plans.contains(plan):
                self._study.enqueue(self._plans.parameters(plan), "leaderboard")
            self._done.add(plan)
            self._count()
            if len(leaders) > len(self._study.attributes.get("leaderboard", [])):
                self._study.remember("leaderboard", leaders)
        self._study.remember("leaderboard", leaders)

    async def _confirm_unpruned(self, plan: Plan, what: str) -> tuple[Keys, Metrics]:
        trial = await self._pipeline.resolve(plan)
        self._count()
        keys, metrics = await self._pipeline.confirm(trial, 0)
        self._note_leader(plan, metrics, what)
        return keys, metrics

    def _note_leader(self, plan: Plan, metrics: Metrics, what: str) -> None:
        names = dict.fromkeys([*self._space.objectives, "size_mb"])
        shown = "  ".join(f"{name} {value:.4g}" for name in names if (value := metrics.value(name)) is not None)
        notes = "; ".join(metrics.notes.values())
        self._progress.note("  ".join(part for part in (f"{what}: {plan_text(plan)}", shown, notes) if part))
