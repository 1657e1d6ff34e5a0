"""Results that were made once and serve several trials: the ledger finds them by their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitsearch.report.trials import ShownTrial

KINDS = (
    ("measurement", "measurements of a graph"),
    ("training", "trainings"),
    ("file", "exported files"),
)
"""Short word, and what it counts."""


@dataclass(frozen=True)
class Shared:
    """`used` trials needed such a result, and `different` ones served them, of which `older` were in the ledger
    before the study began."""

    what: str
    used: int
    different: int
    older: int


@dataclass(frozen=True)
class Reuse:
    """`sources`: for each trial that shares something, what, and with which earlier trial."""

    shared: tuple[Shared, ...]
    duplicates: int
    sources: dict[int, str]


def reuse(trials: Sequence[ShownTrial], made_at: Mapping[str, float], since_s: float) -> Reuse:
    """What the trials of a study share with each other, and with studies before it.

    `made_at` has the time of each result by its key in the ledger, `since_s` is when the study began.
    """
    first: dict[tuple[str, str], int | None] = {}
    used, older = (dict.fromkeys((kind for kind, _ in KINDS), 0) for _ in range(2))
    sources: dict[int, str] = {}
    for trial in trials:
        origins = []
        for kind, key in _results(trial):
            used[kind] += 1
            if (kind, key) in first:
                origins.append(f"{kind} of {_name(first[kind, key])}")
                continue
            first[kind, key] = trial.number
            if made_at.get(key, since_s) < since_s:
                older[kind] += 1
                origins.append(f"{kind} of an earlier study")
        if trial.duplicate_of is not None:
            origins = [f"everything of trial {trial.duplicate_of}"]
        if origins and trial.number is not None:
            sources[trial.number] = ", ".join(origins)
    different = {kind: sum(other == kind for other, _ in first) for kind, _ in KINDS}
    shared = tuple(Shared(words, used[kind], different[kind], older[kind]) for kind, words in KINDS)
    return Reuse(shared, sum(trial.outcome == "duplicate" for trial in trials), sources)


def _results(trial: ShownTrial) -> Iterator[tuple[str, str]]:
    """The kind and the key of each result that the trial needed."""
    keys = trial.keys
    if keys is None or trial.duplicate_of is not None:
        return
    yield "measurement", keys.graph_key
    if trial.outcome == "confirmed" and trial.rung > 0:
        yield "training", keys.weights_key
    if keys.artifact_key is not None:
        yield "file", keys.artifact_key


def _name(number: int | None) -> str:
    return "the baseline" if number is None else f"trial {number}"
