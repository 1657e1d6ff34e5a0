"""What a run shows of its progress: counts from the start, the time left, and on resume what is known."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from vitsearch.core.figures import Figure, Metrics
from vitsearch.pipeline.progress import Silent, on_front
from vitsearch.search.plan_requests import stored_leaders
from vitsearch.search.unpruned_models import report_unpruned
from vitsearch.search.watch.time_estimate import UNKNOWN, Remaining
from vitsearch.storage.pooled_measurements import pool
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.testing.fakes import FakeDevice, FakeRunner, fake_measurement, fake_ratio
from vitsearch_agent.wire.protocol import SCREEN


@dataclass
class Seen(Silent):
    """Everything that a view is told, in order."""

    counts: list[tuple[str, int, int]] = field(default_factory=list)
    left_texts: list[str] = field(default_factory=list)
    records: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text):
        self.notes.append(text)

    def counted(self, what, done, wanted):
        if (what, done, wanted) not in self.counts:
            self.counts.append((what, done, wanted))

    def left(self, text):
        self.left_texts.append(text)

    def earlier_trials(self, records):
        self.records.update(records)


@contextmanager
def remaining(study, **changes):
    with study.opened() as (opened, ledger):
        yield Remaining(opened, ledger, study.with_space(**changes).space, 1, CurrentFigures(ledger))


def screened_once(basis):
    """The figures of a study whose graphs were all screened once."""
    beside = {"basis": basis, "paired": fake_ratio(2.0)} if basis == "paired" else {}
    pooled = pool([fake_measurement(2.0, SCREEN, **beside)])
    return SimpleNamespace(pooled=lambda keys: pooled)


@pytest.fixture(scope="module")
def seen(tmp_path_factory, finished):
    """A run of a new study with three trainings."""
    folder = tmp_path_factory.mktemp("seen")
    value = finished.space.to_json()
    value |= {"storage": f"sqlite:///{folder / 'fake.db'}", "search": value["search"] | {"trials": 3}}
    study = replace(finished, folder=folder, space=type(finished.space).from_json(value), progress=Seen())
    study = replace(study, runner=FakeRunner(), device=FakeDevice())  # not those that other tests look at
    study.run()
    return study.progress


def test_bases_leaderboard_rows_trainings_and_last_measurements_are_counted(seen):
    points = max(wanted for what, _, wanted in seen.counts if what == "re-measured")
    by_kind = {kind: [done for what, done, _ in seen.counts if what == kind] for kind, *_ in seen.counts}
    assert by_kind["bases"] == [0, 1]
    assert by_kind["leaderboard"] == [0, 1, 2]
    assert by_kind["trained"] == [0, 1, 2, 3]
    assert by_kind["re-measured"][-1] == points


def test_each_model_that_is_re_measured_is_counted_with_the_time_left(seen):
    points = max(wanted for what, _, wanted in seen.counts if what == "re-measured")
    notes = [note for note in seen.notes if note.startswith("re-measured")]
    assert notes[0].startswith(f"re-measured 1/{points}: baseline")
    assert notes[0].endswith(" left]")
    assert notes[-1].startswith(f"re-measured {points}/{points}: trial ")


@pytest.mark.parametrize(("basis", "each_s"), [("raw", 12.0), ("paired", 4.0)])
def test_the_time_left_has_the_last_measurements_before_the_first_was_made(finished, monkeypatch, basis, each_s):
    with finished.opened() as (opened, ledger):
        monkeypatch.setattr(ledger.costs, "screening_seconds", lambda: 4.0)
        monkeypatch.setattr(ledger.costs, "measuring_seconds", lambda protocol: None)
        estimate = Remaining(opened, ledger, finished.space, 1, screened_once(basis))
    assert estimate._to_remeasure > 0
    assert estimate._left().low_s == pytest.approx(each_s * estimate._to_remeasure)


def test_models_near_the_front_are_expected_to_be_re_measured(finished):
    """A model that is slower than one of the front only within its interval."""
    objectives = tuple(finished.space.objectives)
    records = dict(finished.records())
    best = next(iter(on_front(records, objectives).values()))
    cost = next(name for name in objectives if name != "accuracy")
    value = best.metrics.value(cost)
    slower = Metrics({cost: Figure(1.01 * value, 0.97 * value, 1.05 * value)})
    near = replace(best, metrics=best.metrics | slower, keys=replace(best.keys, graph_key="n" * 64))
    with remaining(finished) as estimate:
        graph_keys = {keys.graph_key for keys, _ in estimate._shown(records)}
        with_near = {keys.graph_key for keys, _ in estimate._shown(records | {9999: near})}
    assert with_near - graph_keys == {"n" * 64}


def test_nothing_is_known_of_the_time_left_before_the_first_training(seen):
    assert seen.left_texts[0] == UNKNOWN
    assert seen.left_texts[-1] != UNKNOWN


def test_a_resumed_run_knows_trials_and_the_time_left_at_once(finished):
    progress = Seen()
    with remaining(finished, search__trials=100) as estimate:
        estimate.report_known(progress)
    assert progress.counts == [("trained", 8, 100)]
    assert progress.records == finished.records()
    (text,) = progress.left_texts
    assert text.endswith(" left")


def test_a_new_study_has_nothing_to_show_but_what_is_wanted(make_study):
    study, progress = make_study(trials=0), Seen()
    study.run()
    with remaining(study, search__trials=5) as estimate:
        estimate.report_known(progress)
    assert (progress.counts, progress.left_texts) == ([("trained", 0, 5)], [UNKNOWN])
    assert {record.rung for record in progress.records.values()} == {0}, "the leaderboard"


def test_a_resumed_run_counts_the_leaderboard_of_the_run_before(finished):
    progress = Seen()
    with finished.opened() as (opened, _):
        report_unpruned(progress, finished.plans(), stored_leaders(opened))
    assert progress.counts == [("bases", 1, 1), ("leaderboard", 2, 2)]


def test_only_what_was_not_re_measured_yet_is_expected_at_the_end(finished):
    with remaining(finished) as estimate:
        assert estimate._to_remeasure == 0
    with finished.opened() as (opened, ledger):
        repeats = len({record.keys.graph_key for record in opened.records().values() if record.was_trained})
        estimate = Remaining(opened, ledger, finished.space, 1, screened_once("raw"))
    assert 1 <= estimate._to_remeasure <= repeats + 1


def test_a_time_limit_bounds_the_time_left(finished):
    with remaining(finished, search__trials=10_000_000, search__budget=60.0) as estimate:
        seconds = estimate._left()
    assert seconds is not None
    assert seconds.high_s < 120.0
