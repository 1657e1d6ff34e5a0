"""What each knob does to a figure, from models that differ in several knobs at once: main effects by least squares.

For each backbone, the figure (the logarithm of a cost, or the accuracy) is a sum of one term for each knob:

    ratios              proportional to the share that is removed
    resolution          proportional to the logarithm of the side of a square of as many pixels
    words               one step for each value, against the first one
    runtime, precision  one step for each pair, so that int8 may gain in one runtime and lose in another

An effect is stated where the models identify it, and still do without any one of them. Where two knobs changed together
in all models, no effect of one can be told; where they did so in all models but one, that model alone would tell the
effects of both, and a time that a busy machine disturbed lies exactly on the sum: no scatter shows it (its leverage is
1). Such effects are left out, with the reason.

The interval of an effect is the widest of three:

    least squares  Student's t, from the scatter of the models around the sum
    jackknife      from how far the effect moves as each model is left out: HC3 (MacKinnon and White, 1985, Journal of
                   Econometrics 29). A model that moves an effect much widens its interval by more than it moved it.
                   The larger of both standard errors is what Angrist and Pischke (2009, Mostly Harmless Econometrics,
                   section 8.1) advise for few observations, where HC3 alone may by chance be too small
    figures        from the errors of the figures themselves (of times, of predictions, of accuracies on a finite number
                   of images)

The errors that predictions share, such as that of the slope on which all of them lie, are added to the widest: no
scatter shows them.

`r_squared` says how much of the variance such a sum explains: where it is low, knobs act together, and single effects
say little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.figures import Z_95
from vitsearch.core.plan import precision_text
from vitsearch.study.knob_values import SHAPE

Floats = NDArray[np.float64]
Knobs = Mapping[str, str | float | None]
RATIOS = ("head_pruning_ratio", "ffn_pruning_ratio", "depth_pruning_ratio", "embed_pruning_ratio")
WORDS = ("window_size", "weight_sparsity", "distillation")
PLACE = ("backend", "provider", "batch", "threads", "streams")
BACKEND, PROVIDER, THREADS, STREAMS, PRECISION = 0, 1, 3, 4, len(PLACE)
"""Where these are in a deployment, whose last word is its precision."""
DEPLOYMENT = "deployment"
"""The owner of the columns of deployments, each of which has a value for several knobs."""
LEAST_EXPLAINED = 0.5
"""Below this share of the variance, single effects say little."""
LEAST_FREE = 2
"""Degrees of freedom that must be left for an interval."""
SINGULAR = 1e-8
NONE_LEFT = 1e-8
"""A model whose leverage is within this of 1 lies on the sum, whatever its figure."""

Reason = Literal["together", "one_model"]
"""Why an effect is not stated: the knob changed only together with others, or a single model decides."""
REASONS: Mapping[Reason, str] = {
    "together": "it changed only together with other knobs",
    "one_model": "a single model would decide it",
}


@dataclass(frozen=True)
class Observation:
    """A model: the values of its knobs, and its figure with one standard `deviation` of the error that it has alone.
    `shared` is how far the figure moves with each of the standard normal errors that predictions have in common."""

    knobs: Knobs
    value: float
    deviation: float = 0.0
    shared: tuple[float, ...] = ()

    @property
    def backbone(self) -> str:
        return str(self.knobs["backbone"])

    @property
    def resolution(self) -> tuple[float, str]:
        """The side of a square of as many pixels, and the size in words."""
        side = float(self.knobs["resolution"] or 1.0)
        return side, str(self.knobs.get(SHAPE) or f"{side:g}")

    @property
    def deployment(self) -> tuple[str, ...]:
        """The place, and the precision with the layers that it quantizes."""
        ops = self.knobs["quantized_ops"]
        precision = precision_text(str(self.knobs["quantization"]), None if ops is None else str(ops))
        return (*(_word(self.knobs[name]) for name in PLACE), precision)


@dataclass(frozen=True)
class Effect:
    """The figure at `to` minus the figure at `start`, with its 95 % interval, all other knobs equal. `models`:
    how many have the value `to` (of a ratio: any value but `start`). `at`: the choices of other knobs for which it is
    the effect, such as `openvino with 2 streams`; empty where it is the same for all."""

    knob: str
    start: str
    to: str
    estimate: float
    low: float
    high: float
    models: int
    at: str = ""


@dataclass(frozen=True)
class NotStated:
    """An effect that the models do not identify."""

    knob: str
    at: str
    reason: Reason


@dataclass(frozen=True)
class BackboneEffects:
    """`effects` is empty where there are too few models for intervals, and then `r_squared` is None."""

    backbone: str
    models: int
    r_squared: float | None
    effects: tuple[Effect, ...]
    not_stated: tuple[NotStated, ...] = ()

    def reasons(self) -> list[str]:
        """Which effects are not stated, one line for each reason."""
        lines = []
        for reason, words in REASONS.items():
            places: dict[str, dict[str, None]] = {}
            for each in self.not_stated:
                if each.reason == reason:
                    places.setdefault(each.knob, {})[each.at] = None
            if places:
                lines.append(f"Not stated, because {words}: {'; '.join(map(_named, places, places.values()))}")
        return lines

    def about(self) -> str:
        """How many models there are, and how far to believe their effects, as part of a sentence."""
        text = f"{self.models} model{'' if self.models == 1 else 's'}"
        if not self.effects:
            is_few = self.r_squared is None
            return f"{text}, {'too few for effects with intervals' if is_few else 'which tell no knobs apart'}"
        if self.r_squared is None:
            return text
        share = f"{100 * self.r_squared:.0f} % of the variance"
        if self.r_squared < LEAST_EXPLAINED:
            return f"{text}; these effects explain only {share}, so knobs act together"
        return f"{text}; these effects explain {share}"


def _named(knob: str, places: Iterable[str]) -> str:
    """A knob, and where it acts."""
    where = ", ".join(filter(None, places))
    return f"{knob} ({where})" if where else knob


@dataclass(frozen=True)
class _Term:
    """An input of the sum: the knob that it belongs to, and its value for each model."""

    knob: str
    values: Floats


@dataclass(frozen=True)
class _Contrast:
    """A difference of two settings: the change of each column between them."""

    knob: str
    start: str
    to: str
    change: Mapping[int, float]
    models: int
    at: str = ""


def main_effects(observed: Sequence[Observation]) -> list[BackboneEffects]:
    """The effects for each backbone, in the order of the names."""
    names = sorted({observation.backbone for observation in observed})
    return [
        _of_backbone(name, [observation for observation in observed if observation.backbone == name]) for name in names
    ]


def _of_backbone(name: str, observed: Sequence[Observation]) -> BackboneEffects:
    columns, contrasts = _design(observed)
    inputs = _matrix(columns, len(observed))
    values = np.array([observation.value for observation in observed])
    fitted = np.linalg.lstsq(inputs, values, rcond=SINGULAR)
    coefficients, rank = fitted[0], int(fitted[2])
    rest = float(np.sum((values - inputs @ coefficients) ** 2))
    total = _variation(values)
    free = len(observed) - rank
    r_squared = None if total == 0.0 else 1.0 - rest / total
    if free < LEAST_FREE:
        return BackboneEffects(name, len(observed), None, ())
    fit = _Fit.of(inputs, values, observed, free)
    effects: list[Effect] = []
    not_stated: list[NotStated] = []
    for contrast in contrasts:
        row = np.zeros(inputs.shape[1])
        for index, change in contrast.change.items():
            row[index + 1] = change
        if (reason := fit.reason_against(row)) is not None:
            not_stated.append(NotStated(contrast.knob, contrast.at, reason))
            continue
        half, middle = fit.half_interval(row), float(row @ coefficients)
        ends = middle - half, middle + half
        effects.append(Effect(contrast.knob, contrast.start, contrast.to, middle, *ends, contrast.models, contrast.at))
    return BackboneEffects(name, len(observed), r_squared, tuple(effects), tuple(not_stated))


@dataclass(frozen=True)
class _Fit:
    """A sum that was fitted to `n` models with `k` inputs. A `row` below has the change of each input.

    Attributes:
        inputs: `[n, k]`.
        inverse: The pseudo-inverse of the inputs, `[k, n]`.
        residuals: Of each model, `[n]`.
        leverages: How far each model draws the sum to itself: 0 not at all, 1 onto itself, `[n]`.
        errors: One standard deviation of the error that each figure has alone, `[n]`.
        shared: How far each figure moves with each of the errors that several have in common, `[n, errors]`.
        free: Degrees of freedom.
    """

    inputs: Floats
    inverse: Floats
    residuals: Floats
    leverages: Floats
    errors: Floats
    shared: Floats
    free: int

    @classmethod
    def of(cls, inputs: Floats, values: Floats, observed: Sequence[Observation], free: int) -> _Fit:
        inverse = np.linalg.pinv(inputs, rcond=SINGULAR).astype(np.float64)
        residuals = values - inputs @ (inverse @ values)
        leverages = np.einsum("nk,kn->n", inputs, inverse)
        errors = np.array([observation.deviation for observation in observed])
        shared = np.zeros((len(observed), max(len(observation.shared) for observation in observed)))
        for own, observation in zip(shared, observed, strict=True):
            own[: len(observation.shared)] = observation.shared
        return cls(inputs, inverse, residuals, leverages, errors, shared, free)

    def reason_against(self, row: Floats) -> Reason | None:
        """Why the models do not identify an effect; None where they do, and still do without any one of them."""
        if not np.allclose(row @ self.inverse @ self.inputs, row, atol=1e-6):
            return "together"
        weights = np.abs(row @ self.inverse)
        decides = (weights > SINGULAR * weights.max()) & (self.leverages > 1.0 - NONE_LEFT)
        return "one_model" if np.any(decides) else None

    def half_interval(self, row: Floats) -> float:
        """Half the 95 % interval of an effect that is identified."""
        weights = row @ self.inverse
        variance = float(self.residuals @ self.residuals) / self.free
        # A model that lies on the sum has no weight here.
        without = self.residuals / np.maximum(1.0 - self.leverages, NONE_LEFT)
        scatter = max(math.sqrt(variance) * float(np.linalg.norm(weights)), float(np.linalg.norm(weights * without)))
        own = max(student(self.free) * scatter, Z_95 * float(np.linalg.norm(weights * self.errors)))
        return math.hypot(own, Z_95 * float(np.linalg.norm(weights @ self.shared)))


def student(free: int) -> float:
    """Half a 95 % interval of Student's t with so many degrees of freedom, in standard errors."""
    from scipy.special import stdtrit  # here: only effects need it, and scipy.stats takes long to import

    return float(stdtrit(free, 0.975))


def _matrix(columns: Sequence[_Term], count: int) -> Floats:
    """A column of ones, then the inputs."""
    return np.column_stack([np.ones(count), *(column.values for column in columns)])


def _design(observed: Sequence[Observation]) -> tuple[list[_Term], list[_Contrast]]:
    columns: list[_Term] = []
    contrasts: list[_Contrast] = []
    for knob in RATIOS:
        _add_ratio(knob, [float(observation.knobs[knob] or 0.0) for observation in observed], columns, contrasts)
    for method in sorted(
        {str(m) for observation in observed if (m := observation.knobs["token_pruning_method"]) is not None}
    ):
        ratios = [
            float(observation.knobs["token_pruning_ratio"] or 0.0)
            if observation.knobs["token_pruning_method"] == method
            else 0.0
            for observation in observed
        ]
        _add_ratio(f"token_pruning_ratio by {method}", ratios, columns, contrasts)
    _add_resolution([observation.resolution for observation in observed], columns, contrasts)
    is_cut = [
        bool(observation.knobs["head_pruning_ratio"] or observation.knobs["ffn_pruning_ratio"])
        for observation in observed
    ]
    scopes = [
        str(observation.knobs["pruning_scope"]) if cut else "uniform"
        for observation, cut in zip(observed, is_cut, strict=True)
    ]
    _add_words("pruning_scope", scopes, "uniform", columns, contrasts)
    for knob in WORDS:
        words = ["own" if observation.knobs[knob] is None else f"{observation.knobs[knob]}" for observation in observed]
        _add_words(knob, words, None, columns, contrasts)
    _add_deployments([observation.deployment for observation in observed], columns, contrasts)
    return columns, contrasts


def _add_ratio(knob: str, values: list[float], columns: list[_Term], contrasts: list[_Contrast]) -> None:
    if len(set(values)) < 2:
        return
    low, high = min(values), max(values)
    change = {len(columns): high - low}
    contrasts.append(_Contrast(knob, f"{low:g}", f"{high:g}", change, sum(value > low for value in values)))
    columns.append(_Term(knob, np.array(values)))


def _add_resolution(values: list[tuple[float, str]], columns: list[_Term], contrasts: list[_Contrast]) -> None:
    sides = [side for side, _ in values]
    if len(set(sides)) < 2:
        return
    (low, small), (high, large) = min(values), max(values)
    change = {len(columns): math.log(low / high)}
    models = sum(side < high for side in sides)
    contrasts.append(_Contrast("resolution", large, small, change, models))
    columns.append(_Term("resolution", np.log(sides)))


def _add_words(
    knob: str, values: list[str], first: str | None, columns: list[_Term], contrasts: list[_Contrast]
) -> None:
    """One column for each word but the first one: `first`, else the word that most models have."""
    counts = {word: values.count(word) for word in sorted(set(values))}
    start = first if first in counts else max(counts, key=lambda word: counts[word])
    for word in counts:
        if word != start:
            contrasts.append(_Contrast(knob, str(start), word, {len(columns): 1.0}, counts[word]))
            columns.append(_Term(knob, np.array([float(value == word) for value in values])))


def _add_deployments(values: list[tuple[str, ...]], columns: list[_Term], contrasts: list[_Contrast]) -> None:
    """One column for each deployment but the first; then the differences of runtimes at the same precision, of
    precisions within a runtime, and of batches, threads and streams with all else equal."""
    deployments = sorted(set(values), key=lambda deployment: (deployment[-1] != "fp32", deployment))
    index = {deployment: len(columns) + position for position, deployment in enumerate(deployments[1:])}
    for deployment in deployments[1:]:
        columns.append(_Term(DEPLOYMENT, np.array([float(value == deployment) for value in values])))
    differing = frozenset(place for place in range(PRECISION) if len({value[place] for value in values}) > 1)
    for place in (BACKEND, PRECISION, *range(PROVIDER + 1, PRECISION)):
        of_knob = []
        for start, to in ((a, b) for a in deployments for b in deployments):
            if not _is_compared(place, start, to):
                continue
            change = {index[to]: 1.0} if to in index else {}
            if start in index:
                change[index[start]] = -1.0
            knob = "quantization" if place == PRECISION else PLACE[place]
            at = _where(["" if other == place else word for other, word in enumerate(to)], differing)
            of_knob.append(_Contrast(knob, start[place], to[place], change, values.count(to), at))
        contrasts += sorted(of_knob, key=lambda contrast: contrast.at)


def _is_compared(place: int, start: tuple[str, ...], to: tuple[str, ...]) -> bool:
    """Whether two deployments differ in this one knob alone, and this is the order in which they are compared."""
    if [a != b for a, b in zip(start, to, strict=True)] != [other == place for other in range(len(to))]:
        return False
    if place == PRECISION:
        return start[place] == "fp32"
    return start < to if place == BACKEND else _precedes(start[place], to[place])


def _precedes(value: str, other: str) -> bool:
    """Whether a number comes before another one, or before a word."""
    return value.isdigit() and (not other.isdigit() or int(value) < int(other))


def _where(deployment: Sequence[str], differing: frozenset[int]) -> str:
    """A deployment in words. Ones of threads and streams are named where the deployments differ in these."""
    runtime, provider, batch, *_, precision = deployment
    parts = [
        runtime,
        provider if provider != "cpu" else "",
        precision,
        f"batch {batch}" if batch not in ("", "1") else "",
    ]
    counts = [
        f"{count} {PLACE[place] if count != '1' else PLACE[place].removesuffix('s')}"
        for place in (THREADS, STREAMS)
        if (count := deployment[place]) and (count != "1" or place in differing)
    ]
    return " ".join(filter(None, [*parts, f"with {' and '.join(counts)}" if counts else ""]))


def _word(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def importances(observed: Sequence[Observation]) -> dict[str, float]:
    """The share of the variance of the figure over all models that only one knob explains: what the sum of all terms
    loses without it (type III sums of squares). The rest is shared by knobs, or unexplained. Largest first; empty where
    there are too few models."""
    values = np.array([observation.value for observation in observed])
    total = _variation(values)
    if total == 0.0:
        return {}
    inputs, owners = _pooled(observed)
    if len(observed) - np.linalg.matrix_rank(inputs) < LEAST_FREE:
        return {}
    inputs, values = _shorter(inputs, values)
    whole = _rest(inputs, values)
    knobs = dict.fromkeys(owner for owner in owners if owner)
    shares = {
        knob: min(1.0, max(0.0, _rest(inputs[:, [owner != knob for owner in owners]], values) - whole) / total)
        for knob in knobs
    }
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def explained(observed: Sequence[Observation]) -> float | None:
    """The share of the variance that all knobs together explain."""
    values = np.array([observation.value for observation in observed])
    total = _variation(values)
    return None if total == 0.0 else 1.0 - _rest(_pooled(observed)[0], values) / total


def _variation(values: Floats) -> float:
    """The sum of squares around the mean; 0 where values differ by rounding alone."""
    if not len(values):
        return 0.0
    total = float(np.sum((values - values.mean()) ** 2))
    return total if total > 1e-20 * float(np.sum(values**2)) else 0.0


def _shorter(inputs: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The same problem with as many rows as columns: a rotation changes no sum of squares."""
    rotated = np.linalg.qr(np.column_stack([inputs, values])).R
    return rotated[:, :-1], rotated[:, -1]


def _rest(inputs: Floats, values: Floats) -> float:
    coefficients = np.linalg.lstsq(inputs, values, rcond=SINGULAR)[0]
    return float(np.sum((values - inputs @ coefficients) ** 2))


def _pooled(observed: Sequence[Observation]) -> tuple[Floats, list[str]]:
    """The terms of all backbones side by side, each zero for the models of the others, and the knob of each; of a
    deployment all knobs in which deployments differ, such as `backend, quantization`."""
    words = zip(*(observation.deployment for observation in observed), strict=True)
    deployed = ", ".join(knob for knob, own in zip((*PLACE, "quantization"), words, strict=True) if len(set(own)) > 1)
    blocks: list[Floats] = [np.ones(len(observed))]
    owners = [""]
    names = sorted({observation.backbone for observation in observed})
    for name in names:
        rows = [index for index, observation in enumerate(observed) if observation.backbone == name]
        columns, _ = _design([observed[index] for index in rows])
        is_own = np.array([float(observation.backbone == name) for observation in observed])
        if name != names[0]:
            blocks.append(is_own)
            owners.append("backbone")
        for column in columns:
            block = np.zeros(len(observed))
            block[rows] = column.values - column.values.mean()
            blocks.append(block)
            owners.append(deployed if column.knob == DEPLOYMENT else column.knob)
    return np.column_stack(blocks), owners


def unique(observed: Iterable[tuple[str, Observation]]) -> list[Observation]:
    """The first observation of each key: trials that share a measurement or a file are one observation."""
    first: dict[str, Observation] = {}
    for key, observation in observed:
        first.setdefault(key, observation)
    return list(first.values())
