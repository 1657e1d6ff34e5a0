"""How well accuracies were predicted: each training of finished studies beside what the trainings before it say.

    python benchmarks/predictions.py STUDY...

Takes the trainings of each study in the order in which they ended, and predicts each from its rung 0 by the line that
is fitted to the ones before it and held to them, but for the last two: those were under way when it was chosen. Prints
the error, how many of the 90 % intervals hold what came, and the mean log density (nats, more is better).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from vitsearch.core.priors import prior_of
from vitsearch.core.record import trainings
from vitsearch.search.forecast.calibration import CalibratedModel
from vitsearch.search.forecast.quality_model import FinishedTraining, RefittedModel
from vitsearch.study.lookup import opened
from vitsearch.study.study import Study

TRAINERS = 2
"""How many trained at the same time: what one of them found, the other could not know."""


@dataclass(frozen=True)
class Training:
    """What was observed, the accuracies of its base and after its rungs, and the images that it saw."""

    seen: FinishedTraining
    base: float
    accuracy: float
    images: int


@dataclass(frozen=True)
class Outcome:
    """`error`: what came, less what was predicted; `deviation`: the predicted one."""

    error: float
    deviation: float

    @property
    def is_held(self) -> bool:
        return abs(self.error) <= NormalDist(sigma=self.deviation).inv_cdf(0.95)

    @property
    def log_density(self) -> float:
        return math.log(NormalDist(sigma=self.deviation).pdf(self.error))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", nargs="+", help="a study or its .db file")
    every: list[Outcome] = []
    print("| study | trainings | RMSE, points | held by 90 % intervals | log density |\n|---|---|---|---|---|")
    for where in parser.parse_args().study:
        with opened(where) as (study, _):
            outcomes = list(replayed(list(of_study(study))))
        every += outcomes
        print(line(where, outcomes))
    print(line("all", every))


def of_study(study: Study) -> Iterator[Training]:
    """The trainings, in the order in which they ended, of which rung 0 has lost anything."""
    records, times = study.records(), study.times()
    for number in sorted(trainings(records).values(), key=lambda number: times[number][1]):
        record = records[number]
        accuracy = record.metrics.value("accuracy")
        figure = None if record.proxy is None else record.proxy.figures.get("accuracy")
        if record.proxy is None or figure is None or accuracy is None or figure.lost <= 0.0:
            continue
        base = figure.value + figure.lost
        start = RefittedModel(record.plan.backbone, record.proxy.divergence, figure.lost)
        yield Training(FinishedTraining(start, base - accuracy), base, accuracy, record.plan.recipe.images)


def replayed(trainings: Sequence[Training]) -> Iterator[Outcome]:
    for place, training in enumerate(trainings):
        earlier = [before.seen for before in trainings[: max(0, place - TRAINERS)]]
        prior = prior_of("accuracy").after(training.images)
        change = CalibratedModel.fit(earlier, prior).predict(training.seen.start)
        yield Outcome(training.accuracy - min(1.0, training.base + change.mean), change.deviation)


def line(name: str, outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return f"| {name} | 0 | | | |"
    error = 100.0 * math.sqrt(sum(outcome.error**2 for outcome in outcomes) / len(outcomes))
    covered, density = (
        sum(outcome.is_held for outcome in outcomes),
        sum(outcome.log_density for outcome in outcomes) / len(outcomes),
    )
    return f"| {name} | {len(outcomes)} | {error:.2f} | {covered} | {density:.2f} |"


if __name__ == "__main__":
    main()
