"""Problems of `samplers.py` that are formulas: mixed knobs, known truth, noisy values.

    numeric   nine knobs (four floats, two floats by factors, two integers, one word), a loss and a cost that are both
              minimised, 3 % noise on each value
    memory    the same with a third objective, to be maximised: what is left of a memory
    dtlz2     DTLZ2 (Deb, Thiele, Laumanns, Zitzler: Scalable multi-objective optimization test problems, 2002) with
              three objectives, a concave front (an eighth of a sphere) and seven knobs (three floats, two integers,
              two words), without noise

Hypervolume is that of the true values of what was tried, between `ideal` and `worst`, over that of the best known
front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import moocore
import numpy as np
import optuna
from optuna.study import StudyDirection

Columns = Mapping[str, np.ndarray]
SEARCHED, KEPT, GENERATIONS = 20_000, 400, 60
"""Of the search for the best known front, which is not timed."""


@dataclass(frozen=True)
class FloatKnob:
    low: float
    high: float
    by_factors: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=self.by_factors)

    def at(self, shares: np.ndarray) -> np.ndarray:
        if self.by_factors:
            return self.low * (self.high / self.low) ** shares
        return self.low + shares * (self.high - self.low)


@dataclass(frozen=True)
class IntKnob:
    low: int
    high: int

    def suggest(self, trial: optuna.Trial, name: str) -> int:
        return trial.suggest_int(name, self.low, self.high)

    def at(self, shares: np.ndarray) -> np.ndarray:
        values: np.ndarray = np.minimum(np.floor(self.low + shares * (self.high - self.low + 1)), self.high)
        return values


@dataclass(frozen=True)
class WordKnob:
    words: tuple[str, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> str:
        return str(trial.suggest_categorical(name, self.words))

    def at(self, shares: np.ndarray) -> np.ndarray:
        index = np.minimum((shares * len(self.words)).astype(int), len(self.words) - 1)
        words: np.ndarray = np.array(self.words)[index]
        return words


@dataclass(frozen=True)
class Problem:
    """`truth` gives (plans, objectives), all to be minimised but those with `maximized`; `noise` is relative. Plans
    with a positive `excess` (plans,) break a limit, those that `crash` (plans,) give nothing: neither counts."""

    knobs: Mapping[str, FloatKnob | IntKnob | WordKnob]
    truth: Callable[[Columns], np.ndarray]
    maximized: tuple[bool, ...]
    noise: float
    ideal: tuple[float, ...]
    worst: tuple[float, ...]
    excess: Callable[[Columns], np.ndarray] | None = None
    crash: Callable[[Columns], np.ndarray] | None = None

    @property
    def directions(self) -> list[StudyDirection]:
        return [StudyDirection.MAXIMIZE if maximized else StudyDirection.MINIMIZE for maximized in self.maximized]

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        return {name: knob.suggest(trial, name) for name, knob in self.knobs.items()}

    def values(self, plan: Mapping[str, Any]) -> np.ndarray:
        """The truth of one plan, (objectives,)."""
        row: np.ndarray = self.truth(_columns(plan))[0]
        return row

    def breaks_by(self, plan: Mapping[str, Any]) -> float | None:
        """By how much a plan breaks the limit, negative where it meets it; None where there is none."""
        return None if self.excess is None else float(self.excess(_columns(plan))[0])

    def crashes(self, plan: Mapping[str, Any]) -> bool:
        return self.crash is not None and bool(self.crash(_columns(plan))[0])

    def counts(self, plan: Mapping[str, Any]) -> bool:
        """Whether a plan runs and meets the limit."""
        return not self.crashes(plan) and (self.breaks_by(plan) or 0.0) <= 0.0

    def volume(self, values: np.ndarray) -> float:
        """What true `values` (n, objectives) dominate."""
        signs = np.where(self.maximized, -1.0, 1.0)
        ideal, worst = signs * self.ideal, signs * self.worst
        return float(moocore.hypervolume((values * signs - ideal) / (worst - ideal), ref=[1.0] * len(ideal)))

    def best_front(self) -> np.ndarray:
        """The front of an evolutionary search with many plans, (n, objectives)."""
        rng = np.random.default_rng(0)
        shares = rng.random((SEARCHED, len(self.knobs)))
        signs = np.where(self.maximized, -1.0, 1.0)
        for _ in range(GENERATIONS):
            values = self._at(shares)
            front = shares[moocore.is_nondominated(values * signs)]
            front = front[rng.permutation(len(front))[:KEPT]]
            parents = front[rng.integers(len(front), size=SEARCHED // 5)]
            steps = rng.normal(0, 0.05, parents.shape) * (rng.random(parents.shape) < 0.3)
            others = front[rng.integers(len(front), size=len(parents))]
            crossed = np.where(rng.random(parents.shape) < 0.7, parents, others)
            shares = np.concatenate([front, np.clip(crossed + steps, 0, 1)])
        values = self._at(shares)
        values = values[(values * signs < signs * self.worst).all(axis=1)]
        best: np.ndarray = values[moocore.is_nondominated(values * signs)]
        return best

    def _at(self, shares: np.ndarray) -> np.ndarray:
        """The truth, far behind the worst for what does not count."""
        columns = {name: knob.at(shares[:, j]) for j, (name, knob) in enumerate(self.knobs.items())}
        values, signs = self.truth(columns), np.where(self.maximized, -1.0, 1.0)
        if self.excess is not None:
            excess = self.excess(columns)[:, None]
            values = np.where(excess > 0, signs * np.array(self.worst) + np.maximum(excess, 0) + 10.0, values)
        if self.crash is not None:
            values = np.where(self.crash(columns)[:, None], signs * np.array(self.worst) + 1000.0, values)
        return values


def _columns(plan: Mapping[str, Any]) -> Columns:
    return {name: np.array([value]) for name, value in plan.items()}


def loss_and_cost(x: Columns) -> np.ndarray:
    """Losses of .2 to 2, with one good learning rate for each width, and costs of 1 to 100."""
    gain = np.select([x["kind"] == kind for kind in ("plain", "gated", "pooled")], [0.0, 0.12, -0.08], 0.06)
    price = np.select([x["kind"] == kind for kind in ("plain", "gated", "pooled")], [1.0, 1.5, 0.7], 1.2)
    size = x["width"] * (1 - 0.7 * x["cut"]) * np.sqrt(x["depth"])
    capacity = 1.1 * np.exp(-0.9 * size) + 0.35 * x["cut"] ** 2
    rate = (np.log10(x["rate"]) + 2.5 + 0.6 * (x["width"] - 0.6)) ** 2 * 0.15
    decay = (np.log10(x["decay"]) + 4.0 - 0.1 * x["depth"]) ** 2 * 0.02
    noise = 0.5 * (x["dropout"] - 0.12 * size) ** 2 + 0.6 * (x["smoothing"] - 0.1) ** 2
    loss = 0.2 + capacity + rate + decay + noise - 0.5 * gain + 0.04 * np.abs(np.log2(x["batch"] / 48))
    cost = 2 + 4.5 * price * x["depth"] * x["width"] ** 1.5 * (1 - 0.8 * x["cut"]) + 12.0 / np.sqrt(x["batch"])
    return np.column_stack([loss, cost])


def with_memory(x: Columns) -> np.ndarray:
    """And the megabytes that a memory of 512 has left."""
    taken = 30 + 300 * x["width"] ** 2 * (1 - 0.9 * x["cut"]) + x["batch"] * (0.3 + x["width"]) * 1.1
    return np.column_stack([loss_and_cost(x), 512.0 - taken])


MEMORY_MB = 88.0


def beyond_memory(x: Columns) -> np.ndarray:
    """How far a plan takes more than `MEMORY_MB`, or learns far from the best rate; 8 % do neither."""
    taken = 30 + 300 * x["width"] ** 2 * (1 - 0.9 * x["cut"]) + x["batch"] * (0.3 + x["width"]) * 1.1
    excess: np.ndarray = np.maximum(taken / MEMORY_MB - 1, np.abs(np.log10(x["rate"]) + 2.5) - 1.0)
    return excess


def in_a_corner(x: Columns) -> np.ndarray:
    """Two corners in which every plan crashes: half of the plans of one word, and all deep ones of another."""
    crashes: np.ndarray = ((x["e"] == "p") & (x["a"] < 0.5)) | ((x["f"] == "q") & (x["m"] > 4))
    return crashes


def dtlz2(x: Columns) -> np.ndarray:
    """The distance from the front is the sum of five squares; words have no order."""
    first = np.select([x["e"] == word for word in "pqrs"], [0.9, 0.5, 0.1, 0.75], 0.0)
    second = np.select([x["f"] == word for word in "pq"], [0.0, 0.85], 0.5)
    terms = (x["c"], x["m"] / 10, x["n"] / 4, first, second)
    radius = 1 + sum((term - 0.5) ** 2 for term in terms)
    a, b = x["a"] * math.pi / 2, x["b"] * math.pi / 2
    return np.column_stack(
        [radius * np.cos(a) * np.cos(b), radius * np.cos(a) * np.sin(b), radius * np.sin(a)],
    )


NUMERIC_KNOBS: Mapping[str, FloatKnob | IntKnob | WordKnob] = {
    "width": FloatKnob(0.25, 1.0),
    "cut": FloatKnob(0.0, 0.9),
    "dropout": FloatKnob(0.0, 0.5),
    "smoothing": FloatKnob(0.0, 0.3),
    "rate": FloatKnob(1e-4, 1e-1, by_factors=True),
    "decay": FloatKnob(1e-6, 1e-2, by_factors=True),
    "depth": IntKnob(2, 12),
    "batch": IntKnob(8, 128),
    "kind": WordKnob(("plain", "gated", "mixed", "pooled")),
}
DTLZ2_KNOBS: Mapping[str, FloatKnob | IntKnob | WordKnob] = {
    **{name: FloatKnob(0.0, 1.0) for name in "abc"},
    "m": IntKnob(0, 10),
    "n": IntKnob(0, 4),
    "e": WordKnob(("p", "q", "r", "s", "t")),
    "f": WordKnob(("p", "q", "r")),
}
PROBLEMS: Mapping[str, Problem] = {
    "numeric": Problem(NUMERIC_KNOBS, loss_and_cost, (False, False), 0.03, (0.34, 3.6), (1.0, 20.0)),
    "memory": Problem(NUMERIC_KNOBS, with_memory, (False, False, True), 0.03, (0.32, 3.6, 472.0), (1.0, 20.0, 150.0)),
    "limited": Problem(
        NUMERIC_KNOBS, loss_and_cost, (False, False), 0.03, (0.34, 3.6), (1.0, 20.0), excess=beyond_memory
    ),
    "crashing": Problem(
        DTLZ2_KNOBS, dtlz2, (False, False, False), 0.0, (0.0, 0.0, 0.0), (1.1, 1.1, 1.1), crash=in_a_corner
    ),
    "dtlz2": Problem(DTLZ2_KNOBS, dtlz2, (False, False, False), 0.0, (0.0, 0.0, 0.0), (1.1, 1.1, 1.1)),
}


@cache
def best_volume(name: str) -> float:
    """The hypervolume of the best known front; of DTLZ2 the exact one."""
    if name == "dtlz2":
        return 1 - math.pi / 6 / 1.1**3
    return PROBLEMS[name].volume(PROBLEMS[name].best_front())
