"""The progress of a study: outcomes, the leaderboard of unpruned models, cost so far."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vitsearch.core.record import trainings
from vitsearch.devices.availability import still_waiting
from vitsearch.storage.ledger import Ledger
from vitsearch.study.accounting import account
from vitsearch.study.front import read_front
from vitsearch.study.study import Study


def status(study: Study, ledger: Ledger) -> dict[str, Any]:
    """The state of a study as JSON."""
    records, spent, accounted = study.records(), ledger.costs.spent(study.name), account(study, ledger)
    space = study.space()
    return {
        "study": study.name,
        "emulated": study.is_emulated,
        "trained": len(trainings(records)),
        "wanted": space.search.wanted,
        "open": study.unfinished(),
        "space_changes": study.attributes.get("space_changes", []),
        "waits": still_waiting(study.attributes.get("waits")),
        "outcomes": dict(Counter(record.shown_outcome for record in records.values())),
        "failures": {number: record.reason for number, record in records.items() if record.outcome == "failed"},
        "objectives": dict(space.objectives),
        "data": study.attributes.get("data"),
        "reference_point": study.attributes.get("reference_point"),
        "leaderboard": study.attributes.get("leaderboard", []),
        "class_warnings": read_front(study, ledger).class_warnings(),
        "cpu_seconds": spent.cpu_seconds,
        "busy_share": spent.busy_share,
        **accounted.together.to_json(),
        "wall_seconds": accounted.wall_seconds,
        "eta": accounted.eta,
    }
