"""The form of the files of an unpruned model, found by measurement where the space file says ``auto``.

Every form is screened on the device, and the fastest is kept; within the intervals it is the first, which is the usual
one. Files that also quantize convolutions are kept only if they lose little accuracy against those of linear layers.
"""

from __future__ import annotations

from collections.abc import Mapping

from vitsearch.core.figures import Figure
from vitsearch.core.metrics import TIMES, split
from vitsearch.core.plan import Plan, model_text
from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.errors import StageError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.search.session import Session
from vitsearch.study.found_forms import FoundForms
from vitsearch.study.sampling import FORM_KNOBS, QUANTIZED_OPS, PlanSpace, Unpruned

MOST_LOST = 0.01
"""Accuracy that faster files may lose because their convolutions are quantized."""


class FormFinder:
    """Finds the forms of unpruned models and keeps them in the study; one per run."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace, forms: FoundForms) -> None:
        self._progress = session.progress
        self._pipeline = pipeline
        self._plans = plans
        self._forms = forms
        times = (name for name in session.space.objectives if split(name)[0].name in TIMES)
        self._cost = next(times, "cpu_ms_p50")

    async def find(self, model: Unpruned) -> None:
        """Decide each knob that is open for ``model``, one after the other."""
        for knob in FORM_KNOBS:
            if self._plans.finds(knob) and self._forms(model, knob) is None:
                await self._decide(model, knob)

    async def _decide(self, model: Unpruned, knob: str) -> None:
        tried = self._plans.tried_forms(knob, model)
        if len(tried) < 2:
            return
        plans = {value: self._plans.unpruned(model, **{knob: value}) for value in tried}
        costs = {value: cost for value, plan in plans.items() if (cost := await self._screened(plan)) is not None}
        if not costs:
            return
        kept = fastest(costs)
        if knob == QUANTIZED_OPS and kept == ALL and LINEAR in costs:
            kept = await self._accurate(plans)
        self._forms.keep(model, knob, kept)
        self._note(knob, kept, plans[kept], costs)

    async def _screened(self, plan: Plan) -> Figure | None:
        """The cost of the files of a plan; None where they fail."""
        try:
            metrics = await self._pipeline.screen(await self._pipeline.resolve(plan))
        except StageError as error:
            self._fails(plan, error)
            return None
        return metrics.figures[self._cost]

    async def _accurate(self, plans: Mapping[str, Plan]) -> str:
        """``all``, unless it loses more accuracy against ``linear`` than it may."""
        linear, covering = [await self._accuracy(plans[ops]) for ops in (LINEAR, ALL)]
        if linear - covering <= MOST_LOST:
            return ALL
        self._progress.note(
            f"{_described(plans[ALL])}: accuracy {covering:.4f}, {linear:.4f} with {LINEAR} layers alone"
        )
        return LINEAR

    async def _accuracy(self, plan: Plan) -> float:
        """The accuracy of the files of a plan; 0 where they fail."""
        try:
            _, metrics = await self._pipeline.evaluate(await self._pipeline.resolve(plan), 0)
        except StageError as error:
            self._fails(plan, error)
            return 0.0
        return metrics.value("accuracy") or 0.0

    def _fails(self, plan: Plan, error: StageError) -> None:
        self._progress.note(f"{_described(plan)}: {error}")

    def _note(self, knob: str, kept: str, plan: Plan, costs: Mapping[str, Figure]) -> None:
        shown = ", ".join(f"{value} {cost.value:.4g}" for value, cost in costs.items() if cost.value is not None)
        self._progress.note(f"{_described(plan)}: {knob} {kept} is kept ({self._cost}: {shown})")


def _described(plan: Plan) -> str:
    deployment = plan.deployment
    return f"{model_text(plan)} {deployment.precision} {deployment.runtime} {deployment.provider}"


def fastest(costs: Mapping[str, Figure]) -> str:
    """The form of the lowest cost; the first one unless another is better beyond its interval."""
    first, *others = costs
    best = first
    for form in others:
        high, value = costs[form].high, costs[form].value
        now = costs[best].low or costs[best].value
        if value is not None and now is not None and (high or value) < now:
            best = form
    return best
