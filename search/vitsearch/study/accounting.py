"""What a study and each of its trials have cost in time, and how near that is to a perfect schedule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.ledger.costs import Run, StageRun
from vitsearch.storage.stage_cost import DEVICE
from vitsearch.study.current_figures import devices_of
from vitsearch.study.study import Study


@dataclass(frozen=True)
class Seconds:
    """Wall time that stages took on trainers and on devices, and that of stages whose results were there already: made
    for another trial, or by another study."""

    trainer: float = 0.0
    device: float = 0.0
    reused: float = 0.0


@dataclass(frozen=True)
class Account:
    """`of_trials` by number; `together` also has what belongs to no trial alone, such as the bases.

    `wall_seconds` is the time of all runs, `eta` the share of it that a perfect schedule would have needed (None
    before anything has run): at least what the trainers took, over their number, what the busiest device took, over its
    boards, and the longest trial, whose devices measure at the same time."""

    together: Seconds
    of_trials: Mapping[int, Seconds]
    wall_seconds: float
    eta: float | None


def account(study: Study, ledger: Ledger) -> Account:
    """The account of all runs of a study so far."""
    runs, stages = ledger.costs.runs(study.name), ledger.costs.stages(study.name)
    of_trials = _of_trials(study, ledger, {stage.run_id for stage in stages})
    reused = sum(seconds.reused for seconds in of_trials.values())
    worked = ledger.costs.worked(study.name)
    together = Seconds(worked.trainers, worked.devices, reused)
    wall = sum(run.seconds for run in runs)
    devices = _of_devices(stages, study.space())
    longest = max((trial.trainer + trial.device / max(1, len(devices)) for trial in of_trials.values()), default=0.0)
    return Account(together, of_trials, wall, _eta(together.trainer, max(longest, *devices, 0.0), runs, wall))


def _of_devices(stages: Iterable[StageRun], space: SearchSpace) -> list[float]:
    """What each device took, over the number of its boards."""
    seconds: dict[str, float] = defaultdict(float)
    for stage in stages:
        if stage.ran_on.startswith(DEVICE):
            seconds[stage.ran_on.removeprefix(DEVICE)] += stage.wall_seconds
    boards = {name: len(device.boards_of(name)) for name, device in space.devices.items()}
    return [taken / boards.get(name, 1) for name, taken in seconds.items()]


def _of_trials(study: Study, ledger: Ledger, own: set[str]) -> dict[int, Seconds]:
    """The first trial with a result has had it made, if this study has; all others have it for nothing."""
    result_runs, costs, paid, of_trials = ledger.provenance.result_runs(), ledger.costs.by_id(), set[str](), {}
    fleets = study.fleets
    for number, record in sorted(study.records().items()):
        devices = [] if record.keys is None else devices_of(record.keys, fleets).values()
        of_trial = (
            []
            if record.keys is None
            else [run_id for run_id in result_runs.of(record.keys, devices) if run_id in costs]
        )
        new = [run_id for run_id in of_trial if run_id in own and run_id not in paid]
        stages = [costs[run_id] for run_id in new]
        reused = sum(costs[run_id].wall_seconds for run_id in of_trial if run_id not in new)
        paid.update(new)
        of_trials[number] = Seconds(_on(stages, is_device=False), _on(stages, is_device=True), reused)
    return of_trials


def _on(stages: Iterable[StageRun], is_device: bool) -> float:
    return sum(stage.wall_seconds for stage in stages if stage.ran_on.startswith(DEVICE) == is_device)


def _eta(trainer: float, others: float, runs: Sequence[Run], wall: float) -> float | None:
    if not wall:
        return None
    trainers = sum(run.trainers * run.seconds for run in runs) / wall
    return max(trainer / trainers, others) / wall
