"""What may change between two runs of a study, and what may not."""

from __future__ import annotations

import json

import pytest

from support.studies import ME, METRICS
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import NetworkFacts
from vitsearch.core.record import Record
from vitsearch.errors import StudyError
from vitsearch.study.identity import adopt_data
from vitsearch.study.study import Study
from vitsearch.testing.fakes import DATA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": {"accuracy": "maximize", "latency_ms_p50": "minimize"}}, "objectives.latency_ms_p50"),
        (
            {"objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize", "size_mb": "minimize"}},
            "objectives.size_mb",
        ),
        ({"task__data": {"source": "builtin:fashion-mnist"}}, "task.data.source"),
        ({"baseline__resolution": 24}, "baseline.resolution: 28 -> 24"),
    ],
)
def test_what_makes_numbers_comparable_cannot_change(open_study, change, message):
    open_study()
    with pytest.raises(
        StudyError, match="cannot continue with another objective, task, data set, baseline or fleet"
    ) as caught:
        open_study(**change)
    assert message in str(caught.value)


def network(digest):
    facts = NetworkFacts(digest * 64, ImageSize.square(28), (1,), None, (ImageSize.square(28),), {})
    ours = {"python": "nets:make", "name": "ours", "resolution": 28, "(facts)": facts.to_json()}
    return {"space__backbone": ["fake_vit", ours]}


def test_a_network_whose_code_has_changed_needs_another_name(open_study):
    open_study(**network("a"))
    open_study(**network("a"))
    with pytest.raises(
        StudyError, match=r"code or file of 'ours' has changed .* \(architecture aaaaaaaaaaaa, now bbbb"
    ):
        open_study(**network("b"))


@pytest.mark.parametrize("change", [{"search__trials": 99}, {"limits": {}}, {"space__resolution": [28, 32]}])
def test_what_may_change_is_stored(open_study, change):
    open_study()
    study, plans = open_study(**change)
    assert study.space() == plans.space


def test_what_was_changed_is_kept_with_the_trials_that_had_ended(open_study, storage):
    study, plans = open_study(storage)
    trial = study.ask(plans, ME)
    study.tell(trial, Record("confirmed", trial.plan, metrics=METRICS))
    assert study.space_change is None
    for trials in (99, 99, 100):
        study, _ = open_study(storage, search__trials=trials)
    changes = [(change["trials"], change["lines"]) for change in study.attributes["space_changes"]]
    assert changes == [(1, ["search.trials: 8 -> 99"]), (1, ["search.trials: 99 -> 100"])]
    assert study.space_change.lines == ("search.trials: 99 -> 100",)


def test_a_run_that_is_refused_after_it_has_joined_changes_nothing(open_study, storage):
    _, before = open_study(storage)
    joined = Study.join(before.space.model_copy(update={"limits": {}}))
    assert joined.space().limits == before.space.limits != {}
    assert "space_changes" not in joined.attributes
    joined.adopt(joined.space().model_copy(update={"limits": {}}))
    assert joined.space().limits == {}
    assert joined.space_change is not None


def test_a_study_that_moves_has_not_changed(open_study):
    open_study()
    study, _ = open_study(files="/elsewhere")
    assert "space_changes" not in study.attributes


def test_other_data_is_refused_with_what_differs(open_study):
    study, _ = open_study()
    adopt_data(study, DATA)
    adopt_data(study, json.loads(json.dumps(DATA)))
    with pytest.raises(StudyError, match="made with other data.*channels: the study has 1, the data now has 3"):
        adopt_data(study, DATA | {"fingerprint": "other", "channels": 3})
