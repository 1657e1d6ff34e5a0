"""Results that several trials share."""

from __future__ import annotations

from vitsearch.core.record import Keys
from vitsearch.report.reuse import reuse as reuse_of


def reuse(trials, made_at=None):
    """What is reused in a study that began at second 100."""
    return reuse_of(trials, made_at or {}, 100.0)


def keys(weights, graph, artifact):
    return Keys(weights, graph, artifact, "device")


def test_shared_results_are_counted_and_named(trial):
    shared_results = reuse(
        [
            trial(None, "baseline", keys=keys("w0", "g0", "a0")),
            trial(0, "front", keys=keys("w1", "g0", "a1"), rung=1),
            trial(1, "front", keys=keys("w1", "g1", "a2"), rung=1),
        ]
    )
    assert [(result.what, result.used, result.different) for result in shared_results.shared] == [
        ("measurements of a graph", 3, 2),
        ("trainings", 2, 1),
        ("exported files", 3, 3),
    ]
    assert shared_results.sources == {0: "measurement of the baseline", 1: "training of trial 0"}


def test_a_duplicate_uses_everything_of_the_other_trial(trial):
    shared_results = reuse(
        [
            trial(0, "front", keys=keys("w", "g", "a")),
            trial(1, "dominated", outcome="duplicate", keys=keys("w", "g", "a"), duplicate_of=0),
        ]
    )
    assert (shared_results.duplicates, shared_results.sources) == (1, {1: "everything of trial 0"})
    assert [result.used for result in shared_results.shared] == [1, 0, 1]


def test_a_trial_without_keys_shares_nothing(trial):
    assert reuse([trial(0, "failed", outcome="failed")]).sources == {}


def test_what_an_earlier_study_has_made_is_told_apart(trial):
    first = trial(0, "front", keys=keys("w", "g", "a"), rung=1)
    shared_results = reuse(
        [first, trial(1, "front", keys=keys("w", "g2", "a2"), rung=1)], {"w": 50.0, "g": 150.0, "a": 99.0}
    )
    assert [result.older for result in shared_results.shared] == [0, 1, 1]
    assert shared_results.sources == {
        0: "training of an earlier study, file of an earlier study",
        1: "training of trial 0",
    }
