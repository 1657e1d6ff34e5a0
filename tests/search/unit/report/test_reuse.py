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
    found = reuse(
        [
            trial(None, "baseline", keys=keys("w0", "g0", "a0")),
            trial(0, "front", keys=keys("w1", "g0", "a1"), rung=1),
            trial(1, "front", keys=keys("w1", "g1", "a2"), rung=1),
        ]
    )
    assert [(one.what, one.used, one.different) for one in found.shared] == [
        ("measurements of a graph", 3, 2),
        ("trainings", 2, 1),
        ("exported files", 3, 3),
    ]
    assert found.sources == {0: "measurement of the baseline", 1: "training of trial 0"}


def test_a_duplicate_uses_everything_of_the_other_trial(trial):
    found = reuse(
        [
            trial(0, "front", keys=keys("w", "g", "a")),
            trial(1, "dominated", outcome="duplicate", keys=keys("w", "g", "a"), duplicate_of=0),
        ]
    )
    assert (found.duplicates, found.sources) == (1, {1: "everything of trial 0"})
    assert [one.used for one in found.shared] == [1, 0, 1]


def test_a_trial_without_keys_shares_nothing(trial):
    assert reuse([trial(0, "failed", outcome="failed")]).sources == {}


def test_what_an_earlier_study_has_made_is_told_apart(trial):
    first = trial(0, "front", keys=keys("w", "g", "a"), rung=1)
    found = reuse([first, trial(1, "front", keys=keys("w", "g2", "a2"), rung=1)], {"w": 50.0, "g": 150.0, "a": 99.0})
    assert [one.older for one in found.shared] == [0, 1, 1]
    assert found.sources == {0: "training of an earlier study, file of an earlier study", 1: "training of trial 0"}
