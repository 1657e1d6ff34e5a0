"""The models of a finished study on another device: measured in an order that finds its front, and never trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.pareto import front, loss
from vitsearch.core.policy import POLICY
from vitsearch.core.stage import Stage
from vitsearch.errors import DeviceLost, ResourceError, StageError
from vitsearch.search.retarget.retargeting import RetargetLoop
from vitsearch.storage.files import FileStore
from vitsearch.study.front import read_front, read_models
from vitsearch.study.printed.models import PrintedFront
from vitsearch.study.retargeted import Target, find
from vitsearch_agent.wire.protocol import SCREEN

FIRST_GRAPHS = POLICY.retargeting.first_graphs
OBJECTIVES = ("accuracy", "latency_ms_p50")
DYNAMIC, OPENVINO = Target("local", quantization="int8_dynamic"), Target("local", "openvino")


def front_of(moved, device="nano"):
    with moved.study.opened() as (study, ledger):
        return read_front(study, ledger, device)


def trials(front):
    return {point.trial for point in front.points}


def test_the_front_is_that_of_all_models_measured(moved):
    moved.retarget()
    early = trials(front_of(moved))
    retargeted = moved.retarget(every=True)
    losses = {number: loss(OBJECTIVES, record.metrics.values) for number, record in retargeted.models.items()}
    numbers = list(losses)
    assert early == trials(front_of(moved)) == {numbers[index] for index in front(list(losses.values()))}


def test_nothing_is_trained_and_no_file_is_made_where_the_stored_one_runs(moved):
    before = Counter(moved.study.runner.runs)
    moved.retarget(every=True)
    assert moved.study.runner.runs == before


@pytest.mark.long
def test_ten_graphs_are_measured_before_any_is_predicted_to_be_off_the_front(moved):
    retargeted = moved.retarget()
    assert moved.board.measured[SCREEN.id] >= FIRST_GRAPHS
    assert len(retargeted.models) + len(retargeted.predictions) == len(moved.retarget(every=True).models)
    assert all(prediction.chance < 0.05 for prediction in retargeted.predictions)


@pytest.mark.long
def test_what_was_predicted_is_what_is_measured_later(moved):
    predictions = moved.retarget().predictions
    later = moved.retarget(every=True).models
    assert predictions
    for prediction in predictions:
        low, high = prediction.intervals["latency_ms_p50"]
        assert low <= later[prediction.trial].metrics.value("latency_ms_p50") <= high


@pytest.mark.long
def test_a_model_that_the_device_measures_without_an_objective_is_left_out(moved, monkeypatch):
    """It would be asked for again and again."""
    blind, plain = None, RetargetLoop._metrics

    def metrics_of(self, candidate):
        metrics = plain(self, candidate)
        is_blind = candidate.trial == blind and metrics.value("latency_ms_p50") is not None
        return metrics | Metrics({"latency_ms_p50": Figure(None, reason="it is shy")}) if is_blind else metrics

    monkeypatch.setattr(RetargetLoop, "_metrics", metrics_of)
    blind = max(moved.retarget(every=True).models)
    assert moved.retarget(every=True).left_out[blind] == "latency_ms_p50: it is shy"


def test_every_measured_graph_is_predicted_from_the_others(moved):
    (fit,) = moved.retarget().fits
    assert (fit.metric, fit.graphs) == ("latency_ms_p50", moved.board.measured[SCREEN.id])
    assert fit.median_error < 0.05
    assert fit.spearman > 0.97


@pytest.mark.long
def test_a_second_call_measures_nothing_and_finds_the_same(moved):
    retargeted = moved.retarget()
    measured = Counter(moved.board.measured)
    assert moved.retarget() == retargeted
    assert moved.board.measured == measured


def find_of(moved, device="nano"):
    with moved.study.opened() as (study, _):
        return find(study, device)


@pytest.mark.long
def test_a_call_that_is_cut_off_loses_no_measurement(moved):
    seen = []

    def cut(path):
        seen.append(path)
        if len(seen) == 6:
            raise DeviceLost("device nano: gone")

    moved.board.before = cut
    with pytest.raises(DeviceLost):
        moved.retarget()
    assert find_of(moved).models  # what was measured is on the front by then
    moved.board.before = lambda path: None
    moved.retarget()
    first = moved.board.measured[SCREEN.id]
    moved.retarget(every=True)
    assert first == FIRST_GRAPHS
    assert moved.board.measured[SCREEN.id] == len(find_of(moved).models)


def test_limits_refer_to_the_baseline_on_the_new_device(moved):
    limits = {"cpu_ms_p50": {"max_ratio": 0.5}}
    strict = moved.study.with_space(limits=limits)
    strict.run()  # adopts the limits
    retargeted = replace(moved, study=strict).retarget(every=True)
    base = retargeted.baseline.metrics.value("latency_ms_p50")
    assert retargeted.baseline.keys.device_id == "nano-1"
    with strict.opened() as (study, ledger):
        models = read_models(study, ledger, "nano")
    assert all(point.metrics.value("latency_ms_p50") <= 0.5 * base for point in models.points)
    assert {name for point in models.others for name in point.breaks} == {f"latency_ms_p50<={0.5 * base:.6g}"}


def shown(moved, device):
    """The front as `--json` prints it."""
    front = front_of(moved, device)
    return PrintedFront.of(front, front.points)


def test_the_own_front_of_the_study_stays_as_it_is(moved):
    before = shown(moved, None)
    moved.retarget(every=True)
    assert shown(moved, None) == before
    assert shown(moved, "local") == before


@pytest.mark.long
def test_another_runtime_gets_files_from_the_trained_weights_once(moved):
    retargeted = moved.retarget(OPENVINO, every=True)
    stages = Counter(moved.study.runner.runs)
    assert (stages[Stage.TRAIN], stages[Stage.PROXY], stages[Stage.BASE]) == (0, 0, 0)
    assert stages[Stage.EXPORT] == len(retargeted.models)
    assert {record.plan.deployment.runtime for record in retargeted.models.values()} == {"openvino"}
    moved.retarget(OPENVINO, every=True)
    assert moved.study.runner.runs == stages


def test_the_baseline_stays_in_fp32(moved):
    retargeted = moved.retarget(DYNAMIC)
    assert {record.plan.deployment.precision for record in retargeted.models.values()} == {"int8_dynamic"}
    assert retargeted.baseline.plan.deployment.precision == "fp32"


def test_models_that_differ_in_what_the_target_replaces_are_one(moved):
    weights = {record.keys.weights_key for record in moved.study.records().values() if record.is_confirmed}
    assert len(moved.retarget(DYNAMIC, every=True).models) == len(weights)


def test_models_that_cannot_run_there_are_left_out_with_the_reason(moved):
    def refused(plan):
        return "no int8 here" if plan.deployment.precision != "fp32" else None

    retargeted = moved.retarget(every=True, refused=refused)
    assert set(retargeted.left_out.values()) == {"no int8 here"}
    assert {record.plan.deployment.precision for record in retargeted.models.values()} == {"fp32"}


def test_a_device_that_runs_no_model_is_refused(moved):
    def refused(plan):
        return "no int8 here" if plan.deployment.precision == "int8_dynamic" else None

    with pytest.raises(ResourceError, match="no model of study 'fake' can run on nano.int8_dynamic: no int8 here"):
        moved.retarget(Target("nano", quantization="int8_dynamic"), refused=refused)


def test_a_device_that_does_not_run_the_baseline_is_refused(moved):
    with pytest.raises(ResourceError, match="the baseline, to which limits refer, cannot run there: too old"):
        moved.retarget(refused=lambda plan: "too old")


def test_a_precision_that_is_trained_for_leaves_trained_models_out(moved):
    retargeted = moved.retarget(Target("nano", quantization="int8_qat"), every=True)
    assert set(retargeted.left_out.values()) == {"int8_qat needs a training, and nothing is trained for another device"}
    assert {record.rung for record in retargeted.models.values()} == {0}


def test_a_model_whose_weights_are_gone_is_left_out_and_not_trained(moved):
    trained = next(record for record in moved.study.records().values() if record.is_confirmed and record.rung)
    with moved.study.opened() as (_, ledger):
        checkpoint = ledger.training(trained.keys.weights_key, trained.rung).checkpoint_sha256
    FileStore(moved.study.folder / "artifacts").get(checkpoint).unlink()
    retargeted = moved.retarget(OPENVINO, every=True)
    assert moved.study.runner.runs[Stage.TRAIN] == 0
    assert any("the weights are gone" in reason for reason in retargeted.left_out.values())


def test_a_model_that_fails_there_is_left_out_and_the_others_are_measured(moved):
    seen = []

    def broken(path):
        seen.append(path)
        if len(seen) == 3:
            raise StageError("measure", "crash", "the runtime died")

    moved.board.before = broken
    retargeted = moved.retarget(every=True)
    assert list(retargeted.left_out.values()) == ["measuring failed (crash): the runtime died"]
    assert len(retargeted.models) + 1 == len(moved.retarget(every=True).models)
