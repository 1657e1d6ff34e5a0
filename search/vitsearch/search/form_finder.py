"""The form of the files of an unpruned model, found by measurement where the space file says `auto`.

Every form is screened on the device, and the fastest is kept; within the intervals it is the first, which is the usual
one. Files that also quantize convolutions are kept only if they lose little accuracy against those of linear layers.
What decided is said, with the figures.
"""

from __future__ import annotations

from collections.abc import Mapping

from vitsearch.core.figures import Figure
from vitsearch.core.metrics import TIMES, split
from vitsearch.core.plan import Plan, model_text
from vitsearch.core.policy import POLICY
from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.errors import StageError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.search.session import Session
from vitsearch.study.file_forms import FileForms
from vitsearch.study.sampling import FORM_KNOBS, QUANTIZED_OPS, PlanSpace, Unpruned


class FormFinder:
    """Finds the forms of unpruned models and keeps them in the study; one per run."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace, forms: FileForms) -> None:
        self._progress = session.progress
        self._pipeline = pipeline
        self._plans = plans
        self._forms = forms
        times = (name for name in session.space.objectives if split(name)[0].name in TIMES)
        self._cost = next(times, "cpu_ms_p50")
        self._quality = session.space.qualities[0]

    async def find(self, model: Unpruned) -> None:
        """Decide each knob that is open for `model`, one after the other."""
        for knob in FORM_KNOBS:
            if self._plans.finds(knob) and self._forms(model, knob) is None:
                await self._decide(model, knob)

    async def _decide(self, model: Unpruned, knob: str) -> None:
        tried = self._plans.tried_forms(knob, model)
        if len(tried) < 2:
            return
        plans = {value: self._plans.unpruned(model, **{knob: value}) for value in tried}
        costs = await self._costs(plans)
        if not costs:
            return
        plans = {value: plans[value] for value in costs}
        # Once more, beside the same references: each measurement may have changed them.
        costs = await self._costs(plans) or costs
        kept = fastest(costs)
        why = why_fastest(costs, kept, len(tried))
        if knob == QUANTIZED_OPS and kept == ALL and LINEAR in costs:
            kept, why = await self._accurate(plans, why)
        self._forms.keep(model, knob, kept)
        self._note(knob, kept, plans[kept], costs, why)

    async def _costs(self, plans: Mapping[str, Plan]) -> dict[str, Figure]:
        """The costs of the files of plans as they are known now; those that fail are left out."""
        return {value: cost for value, plan in plans.items() if (cost := await self._screened(plan)) is not None}

    async def _screened(self, plan: Plan) -> Figure | None:
        """The cost of the files of a plan; None where they fail."""
        try:
            metrics = await self._pipeline.screen(await self._pipeline.resolve(plan))
        except StageError as error:
            self._fails(plan, error)
            return None
        return metrics.figures[self._cost]

    async def _accurate(self, plans: Mapping[str, Plan], why: str) -> tuple[str, str]:
        """`all`, unless it loses more against `linear` than it may, and what decided; `why` is that it is faster."""
        name, metric = self._quality, split(self._quality)[0]
        linear, covering = [await self._evaluated(plans[ops]) for ops in (LINEAR, ALL)]
        if covering is None:
            return LINEAR, f"{why}, but its {name} is not known: its files fail"
        if linear is None:
            return ALL, f"{why}; the files of {LINEAR} fail"
        most = POLICY.equality.accuracy_of_files
        if metric.gain(linear, covering) <= most:
            return ALL, f"{why}; {name} {covering:.4f}, {LINEAR} {linear:.4f}"
        lost = f"more than {most * metric.width:g} is lost"
        return LINEAR, f"{why}, but has {name} {covering:.4f}, {LINEAR} {linear:.4f}: {lost}"

    async def _evaluated(self, plan: Plan) -> float | None:
        """The quality of the files of a plan; None where they fail."""
        try:
            _, metrics = await self._pipeline.evaluate(await self._pipeline.resolve(plan), 0)
        except StageError as error:
            self._fails(plan, error)
            return None
        return metrics.value(self._quality)

    def _fails(self, plan: Plan, error: StageError) -> None:
        self._progress.note(f"{_described(plan)}: {error}")

    def _note(self, knob: str, kept: str, plan: Plan, costs: Mapping[str, Figure], why: str) -> None:
        shown = ", ".join(f"{value} {_shown(cost)}" for value, cost in costs.items() if cost.value is not None)
        self._progress.note(f"{_described(plan)}: {knob} {kept} is kept ({self._cost}: {shown}): {why}")


def _shown(cost: Figure) -> str:
    """`0.7677 (0.741 to 0.795)`."""
    span = "" if cost.low is None or cost.high is None else f" ({cost.low:.4g} to {cost.high:.4g})"
    return f"{cost.value:.4g}{span}"


def _described(plan: Plan) -> str:
    deployment = plan.deployment
    return f"{model_text(plan)} {deployment.precision} {deployment.runtime} {deployment.provider}"


def fastest(costs: Mapping[str, Figure]) -> str:
    """The form of the lowest cost; the first one that was measured unless another is better beyond its interval."""
    first, *others = [form for form, cost in costs.items() if cost.value is not None] or costs
    best = first
    for form in others:
        if _is_faster(costs[form], costs[best]):
            best = form
    return best


def why_fastest(costs: Mapping[str, Figure], kept: str, tried: int) -> str:
    """What decided for the form that `fastest` has chosen, of `tried` forms."""
    others = [form for form, cost in costs.items() if cost.value is not None and form != kept]
    if not others:
        return f"no other of the {tried} forms could be measured"
    if all(_is_faster(costs[kept], costs[form]) for form in others):
        return f"{kept} is faster beyond the intervals"
    rest = others[0] if len(others) == 1 else "no other"
    beyond = "is not" if len(others) == 1 else "is"
    return f"{kept} is the usual form, and {rest} {beyond} faster beyond the intervals"


def _is_faster(cost: Figure, other: Figure) -> bool:
    """Whether a cost is lower than another one beyond the intervals of both."""
    value, base = cost.high or cost.value, other.low or other.value
    return value is not None and base is not None and value < base
