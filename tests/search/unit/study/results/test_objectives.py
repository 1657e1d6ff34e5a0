"""The models that effects are read from, and what an effect means."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from support.schedulers import proxy
from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.record import Keys, Record
from vitsearch.study.printed.effects import PrintedObjectiveEffects
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.objectives import ObjectiveEffects, objective_effects

NO_METRICS = Metrics({})


def of(name, *effects):
    return ObjectiveEffects(name, (BackboneEffects("vit", 12, 0.9, effects),), {}, 0.9, 12, 0)


def effect(estimate, low, high):
    return Effect("ffn_pruning_ratio", "0", "0.5", estimate, low, high, 4)


@pytest.fixture
def cut(plan):
    """Three models for each share of the FFNs that is removed: their records."""

    def plans():
        for ratio in (0.0, 0.25, 0.5):
            for resolution in (20, 24, 28):
                shape = replace(plan.compression, ffn_pruning_ratio=ratio)
                yield replace(plan, resolution=ImageSize.square(resolution), compression=shape)

    return {
        number: Record("confirmed", plan_of_trial, keys=Keys(f"w{number}", f"g{number}", None, "device"))
        for number, plan_of_trial in enumerate(plans())
    }


@pytest.mark.parametrize(
    ("name", "ends", "verdict"),
    [
        ("cpu_ms_p50", (0.5, 0.4, 0.6), "better"),
        ("cpu_ms_p50", (1.5, 1.4, 1.6), "worse"),
        ("cpu_ms_p50", (1.0, 0.97, 1.04), "nothing"),
        ("cpu_ms_p50", (0.9, 0.7, 1.2), "open"),
        ("throughput_ips", (1.5, 1.4, 1.6), "better"),
        ("throughput_ips", (1.0, 0.9, 1.02), "nothing"),
    ],
)
def test_the_verdict_of_an_effect(name, ends, verdict):
    assert of(name).verdict(effect(*map(math.log, ends))) == verdict


@pytest.mark.parametrize(("name", "shown"), [("cpu_ms_p50", [-0.5, -0.75, 0.25]), ("accuracy", [-0.02, -0.03, -0.01])])
def test_costs_are_shown_as_shares_and_accuracies_as_they_are(name, shown):
    values = shown if name == "accuracy" else map(math.log1p, shown)
    (shown_effect,) = PrintedObjectiveEffects.of(of(name, effect(*values))).backbones[0].effects
    assert [shown_effect.estimate, shown_effect.low, shown_effect.high] == pytest.approx(shown)


def test_a_very_wide_interval_is_finite():
    assert math.isfinite(of("cpu_ms_p50").change(1e6))


def test_the_effect_on_a_cost_is_that_on_its_logarithm(cut):
    figures = {
        number: Metrics.of(
            {"cpu_ms_p50": record.plan.resolution.side * 4.0**-record.plan.compression.ffn_pruning_ratio}
        )
        for number, record in cut.items()
    }
    (of_objective,) = objective_effects(["cpu_ms_p50"], cut, figures)
    by_knob = {effect.knob: of_objective.change(effect.estimate) for effect in of_objective.backbones[0].effects}
    assert by_knob["ffn_pruning_ratio"] == pytest.approx(0.5 - 1)
    assert by_knob["resolution"] == pytest.approx(20 / 28 - 1)


def test_a_graph_counts_once(cut):
    cut[9] = replace(cut[8], keys=replace(cut[8].keys, weights_key="other"))
    (of_objective,) = objective_effects(["cpu_ms_p50"], cut, dict.fromkeys(cut, Metrics.of({"cpu_ms_p50": 1.0})))
    assert of_objective.measured == 9


def with_streams(cut):
    """Each model of `cut` with one and with two streams; both share a file, and each has a measurement of its own."""
    records = {}
    for number, record in cut.items():
        for streams in (1, 2):
            deployment = replace(record.plan.deployment, streams=streams)
            keys = replace(record.keys, graph_key=f"g{number} {streams}")
            records[2 * number + streams] = replace(
                record, plan=replace(record.plan, deployments=(deployment,)), keys=keys
            )
    return records


@pytest.mark.parametrize(
    ("metric", "has_streams", "measured"),
    [
        ("throughput_ips", True, 18),
        ("latency_ms_concurrent_p50", True, 18),
        ("cpu_ms_p50", False, 18),
        ("accuracy", False, 9),
        ("size_mb", False, 9),
    ],
)
def test_streams_act_only_on_what_several_runs_in_flight_take(cut, metric, has_streams, measured):
    """A file that two trials share is one observation of its quality and its size."""
    records = with_streams(cut)
    figures = {
        number: Metrics.of({metric: 0.5 + 0.01 * record.plan.compression.ffn_pruning_ratio + 1e-4 * (number % 3)})
        for number, record in records.items()
    }
    (of_objective,) = objective_effects([metric], records, figures)
    assert ("streams" in {effect.knob for effect in of_objective.backbones[0].effects}) == has_streams
    assert of_objective.measured == measured


def test_the_distillation_acts_on_no_cost(cut):
    records = {
        number: replace(record, plan=replace(record.plan, distillation=("none", "logits")[number % 2]))
        for number, record in cut.items()
    }
    figures = {number: Metrics.of({"cpu_ms_p50": 1.0 + number, "accuracy": 0.9 - 0.01 * number}) for number in cut}
    accuracy, cost = objective_effects(["accuracy", "cpu_ms_p50"], records, figures)
    assert "distillation" in {effect.knob for effect in accuracy.backbones[0].effects}
    assert "distillation" not in {effect.knob for effect in cost.backbones[0].effects}


def test_a_knob_of_which_no_effect_is_stated_explains_nothing_alone(cut):
    sparse = replace(cut[8].plan, compression=replace(cut[8].plan.compression, weight_sparsity="2:4"))
    cut[9] = Record("confirmed", sparse, keys=replace(cut[8].keys, weights_key="w9", graph_key="g9"))
    figures = {number: Metrics.of({"cpu_ms_p50": 5.0 if number == 9 else 1.0 + 0.1 * number}) for number in cut}
    (of_objective,) = objective_effects(["cpu_ms_p50"], cut, figures)
    assert set(of_objective.importances) == {"ffn_pruning_ratio", "resolution"}


def test_what_was_not_measured_does_not_count(cut, plan):
    cut[9] = Record("failed", plan)
    figures = dict.fromkeys(cut, NO_METRICS) | {0: Metrics.of({"cpu_ms_p50": 1.0, "accuracy": 0.9})}
    accuracy, cost = objective_effects(["accuracy", "cpu_ms_p50"], cut, figures)
    assert (accuracy.measured, accuracy.predicted, cost.measured) == (1, 0, 1)


def test_accuracies_are_predicted_where_they_were_not_measured(cut):
    score = proxy(0.1, 0.6, 0.2, 0.8, 0.01)
    cut[7] = replace(cut[7], outcome="not_promoted", proxy=score)
    cut[8] = replace(cut[8], proxy=score)
    figures = dict.fromkeys(cut, Metrics.of({"accuracy": 0.9}))
    (of_objective,) = objective_effects(["accuracy"], cut, figures)
    assert (of_objective.measured, of_objective.predicted) == (8, 1)


def test_what_predictions_share_is_not_averaged_out(cut):
    """All nine lie on a line of the ratio whose slope is open by 0.02."""
    halves = []
    for share in (0.0, 1.0):
        for number, record in cut.items():
            ratio = record.plan.compression.ffn_pruning_ratio
            score = proxy(0.1, 0.6, 0.2, 0.9 - 0.1 * ratio, 0.02 * ratio, 0.0, (share * 0.02 * ratio,))
            cut[number] = replace(record, outcome="not_promoted", proxy=score)
        (of_objective,) = objective_effects(["accuracy"], cut, dict.fromkeys(cut, NO_METRICS))
        (effect,) = (each for each in of_objective.backbones[0].effects if each.knob == "ffn_pruning_ratio")
        halves.append(effect.high - effect.estimate)
    assert halves[1] == pytest.approx(1.96 * 0.01, rel=1e-3)
    assert halves[0] < 0.8 * halves[1]


def test_a_study_without_trials_has_no_effects():
    (of_objective,) = objective_effects(["accuracy"], {}, {})
    assert (of_objective.backbones, of_objective.importances, of_objective.explained) == ((), {}, None)


def test_a_prediction_has_its_error_and_that_of_the_images(cut):
    figures = {number: Metrics.of({"accuracy": 0.9}, {"accuracy": (0.888, 0.912)}) for number in cut}
    score = proxy(0.8, 0.7, 0.2, 0.8, 0.157)
    cut[8] = Record("not_promoted", cut[8].plan, keys=cut[8].keys, proxy=score)
    figures[8] = NO_METRICS
    (of_objective,) = objective_effects(["accuracy"], cut, figures)
    (effect,) = [effect for effect in of_objective.backbones[0].effects if effect.knob == "ffn_pruning_ratio"]
    assert effect.low < effect.estimate < effect.high
    assert effect.high - effect.low > 0.2
    assert of_objective.verdict(effect) == "open"


def test_accuracies_that_differ_less_than_their_images_tell_are_open(cut):
    """Ninths of a point, in which models lie exactly on the sum, against intervals of 1.2 points."""
    figures = {
        number: Metrics.of({"accuracy": value}, {"accuracy": (value - 0.012, value + 0.012)})
        for number, record in cut.items()
        for value in [0.9 - 0.002 * record.plan.compression.ffn_pruning_ratio]
    }
    (of_objective,) = objective_effects(["accuracy"], cut, figures)
    (effect,) = [effect for effect in of_objective.backbones[0].effects if effect.knob == "ffn_pruning_ratio"]
    assert effect.estimate == pytest.approx(-0.001)
    assert of_objective.verdict(effect) != "worse"
