"""What was found on a target is stored with the study, and found by its name."""

from __future__ import annotations

import json

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Keys, Record
from vitsearch.errors import StudyError, UnknownName
from vitsearch.study.retargeted import Fit, Prediction, Retargeted, Target, find, names
from vitsearch.study.study import Study


@pytest.fixture
def study(space):
    study = Study.open(space)
    yield study
    study.close()


@pytest.fixture
def results(plan) -> Retargeted:
    record = Record("confirmed", plan, keys=Keys("w", "g", "a", "nano-1"), metrics=Metrics.of({"accuracy": 0.9}))
    return Retargeted(
        Target("nano", threads=2),
        "physical",
        "confirm-1+threads2",
        record,
        {3: record},
        (Prediction(4, plan, {"latency_ms_p50": 2.0}, {"latency_ms_p50": (1.8, 2.2)}, 0.01),),
        (Fit("latency_ms_p50", 10, 0.03, 0.99, 0.9),),
        {5: "device nano has no runtime openvino"},
    )


def test_it_is_read_as_it_was_stored(study, results):
    results.save(study)
    assert find(study, "nano+threads2") == results
    assert names(study) == ["nano+threads2"]
    json.dumps(results.to_json())


def test_targets_do_not_replace_each_other(study, results):
    results.save(study)
    Retargeted(Target("orin"), "physical", "confirm-1").save(study)
    assert names(study) == ["nano+threads2", "orin"]
    assert find(study, "orin").models == {}


def test_a_target_without_results_is_refused_with_the_command(study):
    with pytest.raises(StudyError) as raised:
        find(study, "nano")
    assert str(raised.value) == (
        "study 'fake' has no results on 'nano'; to measure its models there: vitsearch retarget fake --device nano"
    )


def test_a_wrong_name_is_refused_with_the_nearest(study, results):
    results.save(study)
    with pytest.raises(UnknownName, match=r"no device of study 'fake' is called 'nano\+thread2'; did you mean"):
        find(study, "nano+thread2")
