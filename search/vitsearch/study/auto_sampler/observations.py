"""What the trials of a study say, as minimised objectives on the scale of their models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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

    `None` is not known. The deviation of a cost (minimised and positive) is relative: 0.02 for two percent. All
    others are in the unit of the objective. `constraints` take the place of those of the trial, as where limits have
    changed since; `None` leaves those.
    """

    values: tuple[float | None, ...]
    deviations: tuple[float, ...]
    constraints: Mapping[str, float] | None = None


Judge: TypeAlias = Callable[[FrozenTrial], Evidence | None]


def of_complete(trial: FrozenTrial) -> Evidence | None:
    """The values of a complete trial. Their noise is left to the model."""
    if trial.state != TrialState.COMPLETE:
        return None
    return Evidence(tuple(trial.values), (0.0,) * len(trial.values))


@dataclass(frozen=True)
class Objective:
    """`is_cost`: minimised, and positive wherever it is known. Costs are modelled by their logarithm."""

    maximised: bool
    is_cost: bool

    def scaled(self, value: float | None) -> float:
        """Minimised, on the scale of the model; NaN when it is not known."""
        if value is None or not math.isfinite(value):
            return math.nan
        if self.is_cost:
            return math.log(value) if value > 0 else math.nan
        return -value if self.maximised else value

    def all_scaled(self, values: Floats) -> Floats:
        """`scaled` of each of `values` (n,)."""
        return np.array([self.scaled(value) for value in values.tolist()], dtype=float)


@dataclass(frozen=True)
class Observations:
    """Trials with parameters that are complete, pruned or running, by number.

    Attributes:
        objectives: Of the study.
        trials: In the order of the rows.
        values: Scaled, (trials, objectives), NaN if unknown.
        deviations: (trials, objectives), in the same units.
        constraints: (trials, names), NaN where a trial has none.
    """

    objectives: tuple[Objective, ...]
    trials: tuple[FrozenTrial, ...]
    values: Floats
    deviations: Floats
    constraints: Floats

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
    def reached(self) -> Floats:
        """The objectives (n, objectives) of the finished trials that meet their constraints. What was put aside counts
        as it is known: its like would be put aside too."""
        feasible = ~(self.constraints > 0).any(axis=1)
        return self.values[~self.running & feasible & self.valued]

    def _in_state(self, state: TrialState) -> npt.NDArray[np.bool_]:
        return np.array([trial.state == state for trial in self.trials], dtype=bool)


def observe(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], judge: Judge) -> Observations:
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    observed = [trial for trial in trials if trial.state in states and trial.params]
    unknown = Evidence((None,) * len(directions), (0.0,) * len(directions))
    evidence = [judge(trial) or unknown for trial in observed]
    objectives = tuple(_objective(direction, [e.values[k] for e in evidence]) for k, direction in enumerate(directions))
    values = [[o.scaled(value) for o, value in zip(objectives, e.values, strict=True)] for e in evidence]
    constraints_of = [
        trial.constraints if e.constraints is None else e.constraints
        for trial, e in zip(observed, evidence, strict=True)
    ]
    names = sorted({name for having in constraints_of for name in having})
    constraints = [[having.get(name, math.nan) for name in names] for having in constraints_of]
    return Observations(
        objectives,
        tuple(observed),
        _table(values, len(objectives)),
        _table([e.deviations for e in evidence], len(objectives)),
        _table(constraints, len(names)),
    )


def _objective(direction: StudyDirection, values: Sequence[float | None]) -> Objective:
    maximised = direction == StudyDirection.MAXIMIZE
    measured = [value for value in values if value is not None]
    return Objective(maximised, not maximised and bool(measured) and min(measured) > 0)


def _table(rows: Sequence[Sequence[float]], columns: int) -> Floats:
    return np.array(rows, dtype=float).reshape(len(rows), columns)
