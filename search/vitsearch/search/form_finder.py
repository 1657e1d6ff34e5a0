"""The form of the files of an unpruned model, found by measurement where the space file says `auto`.

Every form is screened on the device, and the fastest is kept; within the intervals it is the first, which is the usual
one. Where the size of files is an objective or has a limit, time times size decides. Files that also quantize
convolutions are kept only if they lose little accuracy against those of linear layers. What decided is said, with the
figures, the sizes, and the layers of int8 files that stay in floats.
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

SIZE = "size_mb"
MOST_LAYERS = 3
INT8_BYTES, FLOAT_BYTES = 1, 4


class FormFinder:
    """Finds the forms of unpruned models and keeps them in the study; one per run."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace, forms: FileForms) -> None:
        self._progress = session.progress
        self._pipeline = pipeline
        self._plans = plans
        self._forms = forms
        times = (name for name in session.space.objectives if split(name)[0].name in TIMES)
        self._cost = next(times, "cpu_ms_p50")
        self._weighs_size = SIZE in {*session.space.objectives, *session.space.limits}
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
        if knob == QUANTIZED_OPS:
            kept, said = await self._decide_layers(plans, costs, len(tried))
        else:
            kept = fastest(costs)
            said = f"({self._cost}: {_listed(costs)}): {why_fastest(costs, kept, len(tried))}"
        self._forms.keep(model, knob, kept)
        self._progress.note(f"{_described(plans[kept])}: {knob} {kept} is kept {said}")

    async def _decide_layers(
        self, plans: Mapping[str, Plan], costs: Mapping[str, Figure], tried: int
    ) -> tuple[str, str]:
        """The layers that int8 covers, and what decided."""
        sizes = {value: await self._size(plan) for value, plan in plans.items()}
        weighed, better = costs, "faster"
        if self._weighs_size:
            weighed = {value: cost.times(sizes[value].value or 1.0) for value, cost in costs.items()}
            better = f"better in {self._cost} times {SIZE}"
        kept = fastest(weighed)
        why = why_fastest(weighed, kept, tried, better)
        if kept == ALL and LINEAR in costs:
            kept, why = await self._accurate(plans, why)
        differ = len(set(sizes.values())) > 1
        figures = f"{self._cost}: {_listed(costs)}" + (f"; {SIZE}: {_listed(sizes)}" if differ else "")
        left = await self._pipeline.float_weights(await self._pipeline.resolve(plans[kept]))
        return kept, f"({figures}): {why}" + (f"; {float_text(left)}" if left else "")

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

    async def _size(self, plan: Plan) -> Figure:
        """That of the file of a plan that was screened."""
        return (await self._pipeline.count(await self._pipeline.resolve(plan))).figures[SIZE]

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


def _listed(costs: Mapping[str, Figure]) -> str:
    return ", ".join(f"{form} {_shown(cost)}" for form, cost in costs.items() if cost.value is not None)


def _shown(cost: Figure) -> str:
    """`0.7677 (0.741 to 0.795)`."""
    span = "" if cost.low is None or cost.high is None else f" ({cost.low:.4g} to {cost.high:.4g})"
    return f"{cost.value:.4g}{span}"


def _described(plan: Plan) -> str:
    deployment = plan.deployment
    return f"{model_text(plan)} {deployment.precision} {deployment.runtime} {deployment.provider}"


def float_text(weights: Mapping[str, int]) -> str:
    """Say which layers of an int8 file stay in floats.

    Args:
        weights: Layer -> bytes of its weights there, largest first.

    Returns:
        A clause with what they cost.
    """
    most = [f"{name} ({size / 1e6:.3g} MB)" for name, size in [*weights.items()][:MOST_LAYERS]]
    more = f" and {len(weights) - MOST_LAYERS} more" if len(weights) > MOST_LAYERS else ""
    extra = sum(weights.values()) * (1 - INT8_BYTES / FLOAT_BYTES)
    layers = "1 layer stays" if len(weights) == 1 else f"{len(weights)} layers stay"
    return f"{layers} in fp32, {extra / 1e6:.3g} MB more than in int8: {', '.join(most)}{more}"


def fastest(costs: Mapping[str, Figure]) -> str:
    """The form of the lowest cost; the first one that was measured unless another is better beyond its interval."""
    first, *others = [form for form, cost in costs.items() if cost.value is not None] or costs
    best = first
    for form in others:
        if _is_faster(costs[form], costs[best]):
            best = form
    return best


def why_fastest(costs: Mapping[str, Figure], kept: str, tried: int, better: str = "faster") -> str:
    """What decided for the form that `fastest` has chosen, of `tried` forms; `better` is what a lower cost is."""
    others = [form for form, cost in costs.items() if cost.value is not None and form != kept]
    if not others:
        return f"no other of the {tried} forms could be measured"
    if all(_is_faster(costs[kept], costs[form]) for form in others):
        return f"{kept} is {better} beyond the intervals"
    rest = others[0] if len(others) == 1 else "no other"
    beyond = "is not" if len(others) == 1 else "is"
    return f"{kept} is the usual form, and {rest} {beyond} {better} beyond the intervals"


def _is_faster(cost: Figure, other: Figure) -> bool:
    """Whether a cost is lower than another one beyond the intervals of both."""
    value, base = cost.high or cost.value, other.low or other.value
    return value is not None and base is not None and value < base
