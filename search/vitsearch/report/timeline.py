"""What each worker and device did, and how long it had nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitsearch.storage.ledger.costs import Run, StageRun
from vitsearch.study.time_spans import total_s, union


@dataclass(frozen=True)
class Lane:
    """A worker or a device. `there_s` is the time in which a run went on that used it, `busy_s` the time in which a
    stage ran there. What several runs do at the same time counts once."""

    name: str
    busy_s: float
    there_s: float

    @property
    def idle_share(self) -> float:
        return 1.0 - self.busy_s / self.there_s if self.there_s > 0.0 else 0.0


def lanes(runs: Sequence[Run], stages: Sequence[StageRun]) -> tuple[Lane, ...]:
    """All workers and devices of a study, workers first."""
    spans = {run.id: (run.started_at, run.seen_at) for run in runs if run.seen_at > run.started_at}
    by_name: dict[str, list[StageRun]] = {}
    for stage in stages:
        by_name.setdefault(stage.ran_on, []).append(stage)
    rows = []
    for name in sorted(by_name, reverse=True):  # worker ..., then device ...
        used_by = {stage.run for stage in by_name[name]}
        there_s = total_s(union(spans[run] for run in used_by if run in spans))
        busy_s = total_s(union((each.started_at, each.started_at + each.wall_seconds) for each in by_name[name]))
        rows.append(Lane(name, busy_s, max(there_s, busy_s)))
    return tuple(rows)
