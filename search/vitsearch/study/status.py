"""The progress of a study: outcomes, the leaderboard of unpruned models, cost so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record, trainings
from vitsearch.devices.availability import still_waiting
from vitsearch.storage.ledger import Ledger
from vitsearch.study.accounting import account
from vitsearch.study.current import CurrentFigures
from vitsearch.study.devices import shown_target
from vitsearch.study.front import Front, OwnTimes, read_front, warnings_of
from vitsearch.study.study import Study


def status(study: Study, ledger: Ledger, front: Front | None = None) -> dict[str, Any]:
    """The state of a study as JSON; ``front`` is its front, where that was read already."""
    records, spent, accounted = study.records(), ledger.costs.spent(study.name), account(study, ledger)
    space = study.space()
    return {
        "study": study.name,
        "emulated": study.is_emulated,
        "devices": [shown_target(name, study.devices) for name in space.device_names],
        "trained": len(trainings(records)),
        "wanted": space.search.wanted,
        "open": study.unfinished(),
        "runs": [run.to_json() for run in ledger.inventory.live_runs(study.name)],
        "space_changes": study.attributes.get("space_changes", []),
        "waits": still_waiting(study.attributes.get("waits")),
        "outcomes": dict(Counter(record.shown_outcome for record in records.values())),
        "failures": _failures(records),
        "objectives": dict(space.objectives),
        "data": study.attributes.get("data"),
        "reference_point": study.attributes.get("reference_point"),
        "leaderboard": list(_leaderboard(study, ledger)),
        "class_warnings": (front or read_front(study, ledger)).class_warnings(),
        "cpu_seconds": spent.cpu_seconds,
        "busy_share": spent.busy_share,
        **accounted.together.to_json(),
        "wall_seconds": accounted.wall_seconds,
        "eta": accounted.eta,
    }


def _failures(records: Mapping[int, Record]) -> dict[int, str]:
    failed = {number: record for number, record in records.items() if record.outcome == "failed"}
    return {number: f"{plan_text(record.plan)}: {record.reason}" for number, record in failed.items()}


def _leaderboard(study: Study, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The unpruned models with what is known of them now: those that are trials may have been measured again."""
    records = {record.plan: record for record in study.records().values() if record.is_confirmed}
    current = CurrentFigures(ledger, study.space().measure.threads, study.fleets)
    times = OwnTimes.of(study, ledger)
    for row in study.attributes.get("leaderboard", []):
        plan, metrics = Plan.from_json(row["plan"]), Metrics.from_json(row)
        if plan in records:
            metrics |= current.now(records[plan])[0]
        said = warnings_of(plan, row["shares"], tuple(times.beside(plan, metrics)))
        yield {"plan": row["plan"], "shares": row["shares"], "warnings": list(said), **metrics.to_json()}
