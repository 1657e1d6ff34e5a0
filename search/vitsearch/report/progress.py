"""How the front grew, over what the study had spent by then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitsearch.core.pareto import Loss, dominates, hypervolume, loss
from vitsearch.report.trials import ShownTrial
from vitsearch.storage.ledger.costs import Run, StageRun
from vitsearch.storage.stage_cost import DEVICE


@dataclass(frozen=True)
class Step:
    """The hypervolume when `trial` had ended (None: at the end), and what had been spent by then: seconds of the
    runs without the breaks between them, CPU-seconds of the workers, seconds of the devices, trainings."""

    trial: int | None
    hypervolume: float
    run_s: float
    worker_cpu_s: float
    device_s: float
    trainings: int


def progress(
    trials: Sequence[ShownTrial],
    trained: Mapping[str, int],
    objectives: Sequence[str],
    reference: Mapping[str, float] | None,
    runs: Sequence[Run],
    stages: Sequence[StageRun],
) -> tuple[Step, ...]:
    """A step for each model that keeps the limits, in the order in which they ended, by their figures now.

    Costs enter the hypervolume as logarithms, accuracy as the error, as in the search. Without a reference point there
    are no steps.
    """
    corner = loss(objectives, reference or {})
    if corner is None or not runs:
        return ()
    first_trained = set(trained.values())
    spent = _Spending(runs, stages)
    front: list[Loss] = []
    volume, trainings, steps = 0.0, 0, []
    for trial in sorted((each for each in trials if each.ended_s is not None), key=lambda each: each.ended_s or 0.0):
        trainings += trial.number in first_trained
        point = loss(objectives, trial.metrics.values) if trial.is_model else None
        if point is None or trial.ended_s is None:
            continue
        if point not in front and not any(dominates(other, point) for other in front):
            front = [other for other in front if not dominates(point, other)] + [point]
            volume = hypervolume(front, corner)
        steps.append(Step(trial.number, volume, *spent.until(trial.ended_s), trainings))
    if steps:
        steps.append(Step(None, volume, *spent.until(max(run.seen_at for run in runs)), trainings))
    return tuple(steps)


class _Spending:
    """Sums over what had ended at a time; asked for times that rise."""

    def __init__(self, runs: Sequence[Run], stages: Sequence[StageRun]) -> None:
        self._runs = runs
        self._stages = sorted(stages, key=lambda stage: stage.started_at + stage.wall_seconds)
        self._next, self._worker_cpu_s, self._device_s = 0, 0.0, 0.0

    def until(self, time_s: float) -> tuple[float, float, float]:
        while self._next < len(self._stages):
            stage = self._stages[self._next]
            if stage.started_at + stage.wall_seconds > time_s:
                break
            if stage.ran_on.startswith(DEVICE):
                self._device_s += stage.wall_seconds
            else:
                self._worker_cpu_s += stage.cpu_seconds
            self._next += 1
        run_s = sum(max(0.0, min(run.seen_at, time_s) - run.started_at) for run in self._runs)
        return run_s, self._worker_cpu_s, self._device_s
