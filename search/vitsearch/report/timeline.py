"""What each worker and device did, and how long it had nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitsearch.storage.ledger.costs import Run, StageRun
from vitsearch.study.time_spans import union


@dataclass(frozen=True)
class Lane:
    """A worker or a device. `there_s` is the length of the runs in which it did something, `busy_s` the part of it
    in which a stage ran there."""

    name: str
    busy_s: float
    there_s: float

    @property
    def idle_share(self) -> float:
        return 1.0 - self.busy_s / self.there_s if self.there_s > 0.0 else 0.0


def lanes(runs: Sequence[Run], stages: Sequence[StageRun]) -> tuple[Lane, ...]:
    """All workers and devices of a study, workers first."""
    lengths = {run.id: max(0.0, run.seen_at - run.started_at) for run in runs}
    by_name: dict[str, list[StageRun]] = {}
    for stage in stages:
        by_name.setdefault(stage.ran_on, []).append(stage)
    rows = []
    for name in sorted(by_name, reverse=True):  # worker ..., then device ...
        there_s = sum(lengths.get(run, 0.0) for run in {stage.run for stage in by_name[name]})
        busy = union((stage.started_at, stage.started_at + stage.wall_seconds) for stage in by_name[name])
        busy_s = sum(end - start for start, end in busy)
        rows.append(Lane(name, busy_s, max(there_s, busy_s)))
    return tuple(rows)
