"""The state of a study that ran to its end."""

from __future__ import annotations

from vitsearch.study.status import status


def test_status_counts_every_trial(finished):
    with finished.opened() as (study, ledger):
        state = status(study, ledger)
        outcomes = state["outcomes"]
        records = study.records().values()
    assert (state["trained"], state["wanted"], state["open"]) == (8, 8, 0)
    assert sum(outcomes.values()) == len(records)
    assert outcomes["confirmed"] == 8 + 2, "those that were trained, and the leaderboard"
    assert outcomes.get("duplicate", 0) == sum(record.duplicate_of is not None for record in records)
    assert state["failures"] == {}
    assert len(state["leaderboard"]) == 2
