"""What the trials of a study say, as minimised objectives on the scale of their models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from vitsearch.study.auto_sampler.encoding import Floats


@dataclass(frozen=True)
class Evidence:
    """What is known of the objectives of a trial, each with one standard deviation.

    `None` is not known. The deviation of an objective that is declared as a cost is relative: 0.02 for two
    percent. All others are in the unit of the objective, whatever scale the sampler models it on. `constraints` take
    the place of those of the trial, as where limits have changed since; `None` leaves those.

    `shared` are errors that trials have in common, such as that of the line by which all of them were forecast: of each
    objective, how far the value moves with each of a number of independent, standard normal errors. Trials without any
    leave it empty. `deviations` do not hold them. They have the units of the deviations.
    """

    values: tuple[float | None, ...]
    deviations: tuple[float, ...]
    constraints: Mapping[str, float] | None = None
    shared: tuple[tuple[float, ...], ...] = ()


FAILS = "auto:fails"
"""The constraint that a plan can be tried."""
Judge: TypeAlias = Callable[[FrozenTrial], Evidence | None]


def of_complete(trial: FrozenTrial) -> Evidence | None:
    """The values of a complete trial, whose noise is left to the model, and that another one has failed."""
    if trial.state == TrialState.FAIL:
        return Evidence((), ())
    if trial.state != TrialState.COMPLETE:
        return None
    return Evidence(tuple(trial.values), (0.0,) * len(trial.values))


@dataclass(frozen=True)
class ObjectiveSpec:
    """What a caller declares of an objective.

    Attributes:
        is_cost: Whether it is positive, a factor counts the same anywhere, and most knobs multiply it. Its logarithm
            is modelled and enters the hypervolume; one that is not positive is not known. Any other objective enters
            it as it is; whether its logarithm is modelled better, the data decide.
        reference: The worst value of interest, in the unit of the objective; `None`: a rule decides.
        tolerance: A deviation that is no reason to ask, of a cost relative, of any other in its unit: a plan that may
            be better by so much is like those that are known.
    """

    is_cost: bool = False
    reference: float | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class Objective(ObjectiveSpec):
    """An objective of a study, with its direction."""

    maximised: bool = False

    def scaled(self, value: float | None) -> float:
        """Minimised, on the scale of the observations; NaN when it is not known."""
        if value is None or not math.isfinite(value):
            return math.nan
        if self.is_cost:
            value = math.log(value) if value > 0 else math.nan
        return -value if self.maximised else value

    def all_scaled(self, values: Floats) -> Floats:
        """`scaled` of each of `values` (n,)."""
        known = np.where(np.isfinite(values), values, math.nan)
        if self.is_cost:
            known = np.log(np.where(known > 0, known, math.nan))
        return -known if self.maximised else known


@dataclass(frozen=True)
class Observations:
    """Trials with parameters that are complete, pruned or running, and failed ones of which there is evidence, by
    number.

    Attributes:
        objectives: Of the study.
        trials: In the order of the rows.
        values: Scaled, (trials, objectives), NaN if unknown.
        deviations: (trials, objectives), in the same units.
        shared: Of each objective (trials, errors), how far its values move with errors that they share.
        constraints: (trials, names), NaN where a trial has none. Once a trial has failed, one of them is that a plan
            can be tried at all: 1 where it failed, -1 where it ended otherwise.
    """

    objectives: tuple[Objective, ...]
    trials: tuple[FrozenTrial, ...]
    values: Floats
    deviations: Floats
    shared: tuple[Floats, ...]
    constraints: Floats

    @property
    def fixed_reference(self) -> Floats:
        """The reference points (objectives,) that are declared, scaled; NaN where a rule decides."""
        return np.array([objective.scaled(objective.reference) for objective in self.objectives])

    @property
    def plans(self) -> list[Mapping[str, Any]]:
        return [trial.params for trial in self.trials]

    @property
    def valued(self) -> npt.NDArray[np.bool_]:
        """Trials (trials,) of which every objective is known."""
        return np.asarray(~np.isnan(self.values).any(axis=1))

    @property
    def running(self) -> npt.NDArray[np.bool_]:
        """Trials (trials,) that have not ended."""
        return self._in_state(TrialState.RUNNING)

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """The finished trials (trials,) that meet their constraints and of which every objective is known. What was
        put aside counts as it is known: its like would be put aside too."""
        return self.valued & ~self.running & ~(self.constraints > 0).any(axis=1)

    @property
    def reached(self) -> Floats:
        """The objectives (n, objectives) of the trials that count."""
        return self.values[self.counted]

    def _in_state(self, state: TrialState) -> npt.NDArray[np.bool_]:
        return np.array([trial.state == state for trial in self.trials], dtype=bool)


def observe(
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
    judge: Judge,
    specs: Sequence[ObjectiveSpec],
) -> Observations:
    """What `judge` knows of the trials of a study with these `directions` and objectives.

    Raises:
        ValueError: Evidence of a trial has another number of objectives.
    """
    count = len(directions)
    unknown = Evidence((None,) * count, (0.0,) * count)
    observed, evidence = [], []
    for trial in trials:
        if trial.state == TrialState.WAITING or not trial.params:
            continue
        judged = judge(trial)
        if trial.state == TrialState.FAIL and judged is None:
            continue  # it was lost: that says nothing of its plan
        observed.append(trial)
        evidence.append(unknown if judged is None or trial.state == TrialState.FAIL else judged)
    for trial, each in zip(observed, evidence, strict=True):
        _check(trial, each, count)
    objectives = tuple(
        Objective(**vars(spec), maximised=direction == StudyDirection.MAXIMIZE)
        for direction, spec in zip(directions, specs, strict=True)
    )
    values = [[o.scaled(value) for o, value in zip(objectives, e.values, strict=True)] for e in evidence]
    constraints_of = [
        dict(trial.constraints if e.constraints is None else e.constraints)
        for trial, e in zip(observed, evidence, strict=True)
    ]
    if any(trial.state == TrialState.FAIL for trial in observed):
        for trial, having in zip(observed, constraints_of, strict=True):
            if trial.state.is_finished():
                having[FAILS] = 1.0 if trial.state == TrialState.FAIL else -1.0
    names = sorted({name for having in constraints_of for name in having})
    constraints = [[having.get(name, math.nan) for name in names] for having in constraints_of]
    return Observations(
        objectives,
        tuple(observed),
        _table(values, count),
        _table([e.deviations for e in evidence], count),
        tuple(_shared(evidence, k) for k in range(count)),
        _table(constraints, len(names)),
    )


def _check(trial: FrozenTrial, evidence: Evidence, count: int) -> None:
    check_length(f"values of the evidence of trial {trial.number}", evidence.values, count)
    check_length(f"deviations of the evidence of trial {trial.number}", evidence.deviations, count)
    if evidence.shared:
        check_length(f"shared of the evidence of trial {trial.number}", evidence.shared, count)


def check_length(name: str, values: Sized, count: int) -> None:
    """Raise a `ValueError` unless there is one value per objective."""
    if len(values) != count:
        raise ValueError(
            f"{name}: {len(values)} entries ({values}), but the study has {count} objectives: allowed are {count}"
        )


def _shared(evidence: Sequence[Evidence], k: int) -> Floats:
    loadings = [each.shared[k] if each.shared else () for each in evidence]
    longest = max(map(len, loadings), default=0)
    return _table([[*row, *[0.0] * (longest - len(row))] for row in loadings], longest)


def _table(rows: Sequence[Sequence[float]], columns: int) -> Floats:
    return np.array(rows, dtype=float).reshape(len(rows), columns)
