"""Drops backbones that cannot meet the limits before their bases are trained.

What a graph costs does not depend on its weights. So each backbone whose classifier is new is built with random weights
and screened, first unpruned, then in the cheapest choices of the space: at the smallest resolution, with all ratios at
their largest, in every deployment, scope and method, with the fewest and the most threads and streams. The first choice
that may meet the limits keeps it. A backbone is dropped only where every choice misses a limit at the better end of its
interval. Which units a ranking over all blocks (`pruning_scope: global`) keeps is not known without scores; here all
count as equally important. The measurements are those that the leaderboard and the search would take: they are found
there by their keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import Bound, bounds, screened
from vitsearch.core.metrics import split
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.precisions import MIXED, lowers_slowly
from vitsearch.core.stage import Stage
from vitsearch.devices.agent_device import DOES_NOT_FIT
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.resolved_trial import ResolvedTrial
from vitsearch.search.session import Session
from vitsearch.search.together import together
from vitsearch.search.verdicts import missed_bound
from vitsearch.study.dropped_backbones import ATTRIBUTE, DroppedBackbone
from vitsearch.study.sampling import FORM_KNOBS, PlanSpace, Unpruned

TRAINED_FIRST = ("hub", "none")
"""Weights whose classifier is new. A file is taken to know the classes of the data, and built-in bases are small."""
TRIED_AT_BOTH_ENDS = ("token_pruning_ratio", "threads", "streams")
"""Choosing and merging tokens takes time too, as do threads; streams raise the throughput, and each run's latency."""
T = TypeVar("T", str, float)


@dataclass(frozen=True)
class _Miss:
    """By how much a choice misses a limit, relative to it, and in words; without a figure where it does not fit."""

    plan: Plan
    by: float
    text: str


@dataclass
class _Cheapest:
    """Answers with the smallest resolution and the largest ratios. Of what these do not order it gives the `answers`,
    then first choices, and notes what it was asked (`questions`)."""

    words: Mapping[str, str]
    answers: tuple[str | float, ...] = ()
    questions: list[tuple[str | float, ...]] = field(default_factory=list)

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        knob = name.partition("@")[0]
        if knob == "distillation":  # costs nothing on the device
            return choices[0]
        return self.words[knob] if knob in self.words else self._next(choices)

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        knob = name.partition("@")[0]
        if knob == "window_size":
            return self._next(choices)
        if knob in TRIED_AT_BOTH_ENDS:
            return self._next(tuple(dict.fromkeys((choices[-1], choices[0]))))
        return choices[0] if knob == "resolution" else choices[-1]

    def _next(self, choices: tuple[T, ...]) -> T:
        index = len(self.questions)
        self.questions.append(choices)
        return self.answers[index] if index < len(self.answers) else choices[0]  # type: ignore[return-value]


def cheapest(plans: PlanSpace, words: Mapping[str, str]) -> Iterator[Plan]:
    """The plans of the smallest resolution and the largest ratios.

    Args:
        plans: All plans.
        words: The backbone and the deployment, by knob.

    Returns:
        One plan for each combination of windows, scopes, sparsities, of token pruning or none, and of the fewest and
        the most threads and streams.
    """
    waiting: list[tuple[str | float, ...]] = [()]
    while waiting:
        answers = waiting.pop(0)
        suggest = _Cheapest(words, answers)
        yield plans.plan(suggest)
        firsts = tuple(choices[0] for choices in suggest.questions)
        for index in range(len(answers), len(firsts)):
            before = (*answers, *firsts[len(answers) : index])
            waiting += [(*before, choice) for choice in suggest.questions[index][1:]]


class BackboneScreening:
    """Screens the backbones of a session, once in a run."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace) -> None:
        self._space = session.space
        self._study = session.study
        self._progress = session.progress
        self._most = session.policy.backbones.most_choices
        self._pipeline = pipeline
        self._plans = plans
        self._bounds: tuple[Bound, ...] = ()

    @property
    def needs_baseline(self) -> bool:
        """Whether a limit that screening can judge refers to the baseline."""
        return any(
            split(metric)[0].screened and (limit.max_ratio is not None or limit.min_ratio is not None)
            for metric, limit in self._space.limits.items()
        )

    async def searched(self, baseline: Metrics) -> PlanSpace:
        """Judge the backbones whose bases would have to be trained, where there are several.

        The backbone of the baseline stays while any other does: it is measured in any case.

        Args:
            baseline: The metrics to which relative limits refer; none where there are no such limits.

        Returns:
            The plans of the backbones that are searched.

        Raises:
            StudyError: No backbone can meet the limits; with the nearest miss of each.
        """
        self._bounds = screened(bounds(self._space.limits, baseline.values))
        dropped = await self._dropped()
        if dropped or ATTRIBUTE in self._study.attributes:
            self._study.remember(ATTRIBUTE, [backbone.to_json() for backbone in dropped])
        if len(dropped) == len(self._plans.backbones()):
            head = (
                "no backbone of the space can meet the limits, and none was trained; raise the limits, or add cheaper "
            )
            lines = [f"{head}backbones, resolutions or precisions:", *(f"  {each.describe()}" for each in dropped)]
            raise StudyError("\n".join(lines))
        for backbone in dropped:
            self._progress.note(f"not searched: {backbone.describe()}")
        return replace(self._plans, dropped=frozenset(backbone.backbone for backbone in dropped))

    async def _dropped(self) -> list[DroppedBackbone]:
        names, last = self._plans.backbones(), self._space.baseline.backbone
        trained = [name for name in names if self._space.start_of(name).weights in TRAINED_FIRST]
        if not self._bounds or len(trained) < 2:
            return []
        judged = [name for name in trained if not self._has_base(name)]
        others = [name for name in judged if name != last]
        if others:
            self._progress.note(f"screening {', '.join(others)} untrained: what cannot meet the limits is not trained")
        dropped = [verdict for verdict in await together(map(self._judge, others)) if verdict is not None]
        if last in judged and len(dropped) == len(names) - 1 and (verdict := await self._judge(last)) is not None:
            dropped.append(verdict)
        return dropped

    def _has_base(self, backbone: str) -> bool:
        models = self._plans.unpruned_of(backbone)
        return any(self._pipeline.has_base(self._plans.unpruned(model)) for model in models[:1])

    async def _judge(self, backbone: str) -> DroppedBackbone | None:
        """What to say of a backbone that cannot meet the limits; None where it may, or where nobody can tell."""
        if any(model.precision in MIXED for model in self._plans.unpruned_of(backbone)):
            return None  # which layers stay in fp32 follows from trained weights
        misses: dict[str, _Miss] = {}
        try:
            for plan in self._choices(backbone):
                trial = await self._pipeline.resolve_untrained(plan)
                if (key := trial.stage_keys.graph) in misses:
                    continue
                if len(misses) == self._most or (miss := await self._miss(trial)) is None:
                    return None
                misses[key] = miss
        except StageError as error:
            self._progress.note(f"{backbone} stays, as it could not be screened: {error}")
            return None
        if not misses:
            return None
        nearest = min(misses.values(), key=lambda miss: miss.by)
        return DroppedBackbone(backbone, plan_text(nearest.plan), nearest.text, len(misses))

    def _choices(self, backbone: str) -> Iterator[Plan]:
        """The unpruned model that the leaderboard has first, then the cheapest plans of each deployment."""
        models = self._plans.unpruned_of(backbone)
        yield from map(self._plans.unpruned, models[:1])
        # A file that takes long to lower is made last: it is still less work than the training of a base.
        for model in sorted(models, key=lambda model: lowers_slowly(model.runtime)):
            for form in self._forms(model):
                words = {
                    "backbone": backbone,
                    "backend": model.runtime,
                    "provider": model.provider,
                    "quantization": model.precision,
                }
                yield from cheapest(_with_form(self._plans, form), words)

    def _forms(self, model: Unpruned) -> Iterator[dict[str, str]]:
        """The forms of files that the leaderboard decides about."""
        tried = {knob: self._plans.tried_forms(knob, model) for knob in FORM_KNOBS if self._plans.finds(knob)}
        tried = {knob: forms for knob, forms in tried.items() if forms}
        for forms in itertools.product(*tried.values()):
            yield dict(zip(tried, forms, strict=True))

    async def _miss(self, trial: ResolvedTrial) -> _Miss | None:
        """The limit that a choice misses by most; None where it may meet all of them. The device is not asked where the
        file alone misses one."""
        try:
            for measure in (self._pipeline.count, self._pipeline.screen):
                metrics = await measure(trial)
                if (bound := missed_bound(self._bounds, metrics)) is not None:
                    return _missed(trial.plan, bound, metrics.figures[bound.metric])
        except StageError as error:
            if error.stage != Stage.MEASURE or error.kind not in DOES_NOT_FIT:
                raise
            return _Miss(trial.plan, float("inf"), f"does not fit the device: {error.message}")
        return None


def _with_form(plans: PlanSpace, form: Mapping[str, str]) -> PlanSpace:
    """The plans as if the leaderboard had found this form."""
    return replace(plans, form_of=lambda model, knob: form.get(knob))


def _missed(plan: Plan, bound: Bound, figure: Figure) -> _Miss:
    assert figure.value is not None  # it misses the bound
    span = "" if figure.low is None or figure.high is None else f" ({figure.low:.4g} to {figure.high:.4g})"
    limit = f"{'above' if bound.sense == '<=' else 'below'} {bound.value:.4g}"
    text = f"has {bound.metric} {bound.shown(figure.value)}{span}, {limit}"
    return _Miss(plan, bound.violation(figure.value), text)
