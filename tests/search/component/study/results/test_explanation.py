"""What each knob did in a study, in numbers and in words."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.terminal import shown
from vitsearch.cli.results.explain import print_explanation
from vitsearch.core.json_value import json_text
from vitsearch.core.metrics import split
from vitsearch.study.front import read_models
from vitsearch.study.printed.effects import PrintedExplanation
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.explanation import (
    EvaluatedPrediction,
    Explanation,
    PredictionCalibration,
    read_explanation,
)
from vitsearch.study.results.objectives import ObjectiveEffects


def objective(name="cpu_ms_p50", **changes):
    effect = Effect("quantization", "fp32", "int8_ptq", *map(math.log, (1.01, 0.98, 1.04)), 4, "openvino")
    parts = {"backbones": (BackboneEffects("vit", 12, 0.95, (effect,)),), "importances": {"quantization": 0.4}}
    return ObjectiveEffects(**{"name": name, "explained": 0.97, "measured": 12, "predicted": 0} | parts | changes)


@pytest.fixture
def explanation():
    predictions = (
        EvaluatedPrediction("accuracy", 4, 0.90, 0.01, 0.91, 0.90, 0.92, True),
        EvaluatedPrediction("accuracy", 5, 0.85, 0.001, 0.95, 0.94, 0.96, False),
    )
    return Explanation("fake", False, (objective(),), predictions)


def test_the_effects_of_a_study_are_json(finished):
    with finished.opened() as (study, ledger):
        explanation = read_explanation(study, ledger)
    value = json.loads(json_text(PrintedExplanation.of(explanation)))
    assert [row["objective"] for row in value["objectives"]] == ["accuracy", "cpu_ms_p50"]
    accuracy, cost = value["objectives"]
    assert accuracy["predicted"] > 0
    assert cost["predicted"] == 0
    assert cost["measured"] >= accuracy["measured"] > 0
    (fake,) = cost["backbones"]
    assert fake["backbone"] == "fake_vit"
    assert {effect["knob"] for effect in fake["effects"]} >= {"ffn_pruning_ratio", "head_pruning_ratio", "resolution"}


def test_costs_of_the_fake_device_fall_where_more_is_removed(finished):
    with finished.opened() as (study, ledger):
        _, cost = read_explanation(study, ledger).objectives
    (fake,) = cost.backbones
    by_name = {effect.knob: effect for effect in fake.effects}
    assert by_name["ffn_pruning_ratio"].estimate < 0
    assert cost.verdict(by_name["ffn_pruning_ratio"]) == "better"


def test_predictions_are_held_against_what_came(finished):
    with finished.opened() as (study, ledger):
        explanation, records = read_explanation(study, ledger), study.records()
    assert {prediction.trial for prediction in explanation.predictions} == {
        number for number, record in records.items() if record.is_confirmed and record.proxy is not None
    }
    assert next(explanation.calibration.lines()).startswith(
        f"{len(explanation.predictions)} predicted values of accuracy were measured later"
    )


def test_a_precision_that_gains_nothing_is_said_in_one_line(explanation):
    assert list(explanation.lines()) == [
        "int8_ptq gains at most 2 % for vit in openvino here: cpu_ms_p50 +1 % (-2 to +4 %) against fp32"
    ]


def test_an_accuracy_is_a_difference_in_points():
    effect = Effect("ffn_pruning_ratio", "0", "0.5", -0.02, -0.03, -0.01, 4)
    text = shown(print_explanation, Explanation("fake", False, (objective("accuracy", backbones=(
        BackboneEffects("vit", 12, 0.4, (effect,)),)),), ()))  # fmt: skip
    assert "these effects explain only 40 % of the variance, so knobs act together" in text
    assert "ffn_pruning_ratio  0 > 0.5      -2.0   -3.0 to -1.0  worse" in text


def test_a_quality_that_is_no_share_changes_in_its_unit(pixel_error):
    effect = Effect("ffn_pruning_ratio", "0", "0.5", -1.25, -2.0, -0.5, 4)
    text = shown(print_explanation, Explanation("fake", False, (objective(pixel_error, backbones=(
        BackboneEffects("vit", 12, 0.9, (effect,)),)),), ()))  # fmt: skip
    assert re.search(r"from > to +px +95 % interval", text)
    assert re.search(r"0 > 0.5 +-1.25 +-2 to -0.5 +better", text)


def test_too_few_models_are_said():
    text = shown(print_explanation, Explanation("fake", True, (objective(backbones=(
        BackboneEffects("vit", 3, None, ()),)),), ()))  # fmt: skip
    assert text.startswith("EMULATED: What each knob did in study fake\n")
    assert "vit: 3 models, too few for effects with intervals" in text


def test_the_whole_output(explanation):
    assert (
        shown(print_explanation, explanation, width=100)
        == """\
What each knob did in study fake

cpu_ms_p50 (12 measured models)
knob          explains alone
quantization          40.0 %
share of the variance over all models that no other knob explains; all knobs together explain 97 %

vit: 12 models; these effects explain 95 % of the variance
knob          at        from > to        change  95 % interval       is
quantization  openvino  fp32 > int8_ptq    +1 %     -2 to +4 %  no gain

Intervals are those of the effect, the widest of three: from the scatter of the models around the
sum of all effects, from how far the effect moves without each single model, and from the errors of
the times, predictions and qualities themselves. "No gain": the interval excludes a gain of at least
5% of a cost, or 0.5 % of a quality's range, worst to best (of a share: points).

In short
int8_ptq gains at most 2 % for vit in openvino here: cpu_ms_p50 +1 % (-2 to +4 %) against fp32

Predicted and measured accuracy
trial  predicted     95 % interval  measured    error  within  trained
    5     0.8500  0.8398 to 0.8602    0.9500  +0.1000      no       no
    4     0.9000  0.8780 to 0.9220    0.9100  +0.0100     yes      yes
2 predicted values of accuracy were measured later: error 0.0711 (root mean square), +0.0550 on
average; 1 of 2 lies within its 95 % interval, which has the errors of the prediction and of these
validation images
Both came out higher than predicted, by 0.0100 to 0.1000"""
    )


def test_an_interval_does_not_go_beyond_what_is_perfect(pixel_error):
    """A cost of mistakes was predicted between -0.004 and 0.09."""
    best = split(pixel_error)[0].at_error(0.0)
    low, high = EvaluatedPrediction(pixel_error, 1, best + 0.1, 0.5, best + 0.2, best + 0.1, best + 0.3, True).interval
    assert (low, high > best + 1.0) == (best, True)
    low, high = EvaluatedPrediction("accuracy", 1, 0.6, 0.5, 0.9, 0.8, 1.0, True).interval
    assert (low, high) == (0.0, 1.0)


accuracies = st.floats(0.05, 0.95)


@given(accuracies, st.floats(0.0, 0.05), accuracies, st.floats(0.001, 0.05))
def test_a_prediction_holds_where_what_was_measured_lies_in_the_interval_that_is_shown(predicted, by, measured, half):
    prediction = EvaluatedPrediction("accuracy", 0, predicted, by, measured, measured - half, measured + half, False)
    low, high = prediction.interval
    assert prediction.holds == (low <= measured <= high)
    assert low <= predicted <= high
    assert high - low >= min(0.05, 2 * half) - 1e-9, "the error of the images is part of it"


def test_the_count_is_that_of_the_rows_that_are_shown_within():
    """Two of three lay outside the interval shown, and "3 of 3 lie within" stood below."""
    measured = (0.8735, 0.9000, 0.8950)
    predictions = tuple(
        EvaluatedPrediction("accuracy", number, value - 0.058, 0.0275, value, value - 0.0135, value + 0.0135, True)
        for number, value in enumerate(measured)
    )
    text = shown(print_explanation, Explanation("fake", False, (), predictions))
    rows = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit() and " to 0." in line]
    within = [float(row[2]) <= float(row[5]) <= float(row[4]) for row in rows]
    assert [row[7] for row in rows] == ["yes" if is_within else "no" for is_within in within]
    assert f"{sum(within)} of 3 lie" in text


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (
            (0.058, 0.0579, 0.0581),
            "All 3 came out higher than predicted, by 0.0579 to 0.0581: an error in common, +0.0580 (",
        ),
        ((-0.01, -0.02), "Both came out lower than predicted, by 0.0100 to 0.0200"),
        (
            (0.02,) * 20 + (-0.001,),
            "They came out higher than predicted: an error in common, +0.0190 (+0.0169 to +0.0211)",
        ),
        ((0.02, -0.02, 0.001), None),
        ((0.058,), None),
    ],
    ids=["all above", "both below", "most above", "scatter", "a single one"],
)
def test_an_error_that_the_predictions_share_is_said(errors, said):
    calibration = PredictionCalibration(
        tuple(EvaluatedPrediction("accuracy", 0, 0.8, 0.02, 0.8 + error, 0.78, 0.82, True) for error in errors)
    )
    common = calibration.common()
    assert common == said or (said is not None and common is not None and common.startswith(said))


def test_the_end_of_a_search_is_given_with_what_its_shares_are_of(finished):
    with finished.opened() as (study, ledger):
        reason, volume = read_explanation(study, ledger).ending
        corner = study.attributes["reference_point"]
        front = read_models(study, ledger)
        assert study.attributes["search_end"] in reason
    assert f"a hypervolume of {front.hypervolume(corner):.4g} up to accuracy {corner['accuracy']:.4g}" in volume
    assert volume.endswith(f"0.10% of it are {0.001 * front.hypervolume(corner):.2g}")


@pytest.mark.parametrize(
    ("measured", "says_little"), [((0.7, 0.8, 0.82, 0.85, 0.9), False), ((0.9, 0.7, 0.85, 0.82, 0.8), True)]
)
def test_predictions_are_held_to_the_order_of_the_results(measured, says_little):
    predictions = tuple(
        EvaluatedPrediction("accuracy", number, 0.7 + 0.05 * number, 0.01, value, value, value, True)
        for number, value in enumerate(measured)
    )
    sentence = PredictionCalibration(predictions).order()
    assert ("says little" in sentence) is says_little
    assert PredictionCalibration(predictions[:4]).order() is None, "four plans have no order to speak of"
