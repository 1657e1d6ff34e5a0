"""The keys. Their values are committed, because a change would make every ledger worthless."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support import GOLDEN
from vitsearch.core.image_size import ImageSize
from vitsearch.core.keys import (
    DataIdentity,
    ExportKeys,
    ExportTarget,
    Origin,
    UnprunedWeights,
    artifact_key,
    graph_key,
    qat_key,
    trial_keys,
    weights_key,
)
from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT
from vitsearch.core.plan import Augmentation, Plan, QuantizationAware
from vitsearch.core.preprocessing import HALF, NONE
from vitsearch.core.resolve import ResolvedPlan

DATA = DataIdentity("cd" * 32, 10, 1)
PLAN = Plan.from_json(json.loads(Path(GOLDEN, "plan.json").read_text(encoding="utf-8")))
ORIGIN = Origin(
    UnprunedWeights("ef" * 32, ImageSize.square(28), HALF), UnprunedWeights("12" * 32, ImageSize.square(28), HALF)
)


@pytest.fixture
def plan(golden) -> Plan:
    return Plan.from_json(golden("plan"))


@pytest.fixture
def resolved(golden) -> ResolvedPlan:
    return ResolvedPlan.from_json(golden("resolved_plan"))


def key_of_weights(resolved, plan, data=DATA, **changed):
    return weights_key(resolved, plan, replace(ORIGIN, **changed), data)


def test_keys_equal_the_committed_values(plan, resolved):
    weights = key_of_weights(resolved, plan)
    graph = graph_key(resolved, plan.deployment, DATA, 17)
    assert weights == "cfef10965e36e218f2af9d0e6d99b70a09d53efc270150bdaf478e847577db9f"
    assert graph == "14ac6b43ad34e679301e35fa047858a0c70c618f25684de55e58e16a447a0280"
    assert artifact_key(weights, 1, graph, None) == "ff9ce39725a386a427d9b713a9aee76e516206a0e5818059ab63f36eecba21dc"


def with_precision(resolved, precision):
    return replace(resolved, precision=precision)


def with_other_indices(resolved):
    first = resolved.blocks[0]
    moved = replace(first, ffn=tuple(index + 1 for index in first.ffn))
    return replace(resolved, blocks=(moved, *resolved.blocks[1:]))


def with_fewer_channels(resolved):
    first = resolved.blocks[0]
    return replace(resolved, blocks=(replace(first, ffn=first.ffn[:-1]), *resolved.blocks[1:]))


@pytest.mark.parametrize(
    ("change", "weights_change", "graph_changes"),
    [
        (lambda resolved: with_precision(resolved, "int8_dynamic"), False, True),
        (with_other_indices, True, False),
        (with_fewer_channels, True, True),
        (lambda resolved: replace(resolved, resolution=ImageSize.square(14)), True, True),
        (lambda resolved: replace(resolved, resolution=ImageSize(28, 32)), True, True),
        (lambda resolved: replace(resolved, tokens=(50, 40, 40)), True, True),
        (lambda resolved: replace(resolved, token_pruning_method="tome"), True, True),
        (lambda resolved: replace(resolved, embed=(0, 1)), True, True),
        (lambda resolved: replace(resolved, weight_sparsity="50%"), True, False),
        (lambda resolved: replace(resolved, fp32_layers=("blocks.0",)), False, True),
    ],
    ids=[
        *("precision", "indices", "counts", "resolution", "shape", "tokens", "method", "embed", "sparsity"),
        "fp32_layers",
    ],
)
def test_which_keys_a_resolved_plan_changes(plan, resolved, change, weights_change, graph_changes):
    other = change(resolved)
    assert (key_of_weights(other, plan) != key_of_weights(resolved, plan)) == weights_change
    keys = [graph_key(e, plan.deployment, DATA, 17) for e in (resolved, other)]
    assert (keys[0] != keys[1]) == graph_changes


@pytest.mark.parametrize(
    "changed",
    [
        {"base": UnprunedWeights("0" * 64, ImageSize.square(28), HALF)},
        {"base": UnprunedWeights("ef" * 32, ImageSize.square(24), HALF)},
        {"base": UnprunedWeights("ef" * 32, ImageSize(28, 32), HALF)},
        {"base": UnprunedWeights("ef" * 32, ImageSize(32, 28), HALF)},
        {"base": UnprunedWeights("ef" * 32, ImageSize.square(28), NONE)},
        {"base": UnprunedWeights("ef" * 32, ImageSize.square(28), replace(HALF, crop_share=0.9))},
        {"base": UnprunedWeights("ef" * 32, ImageSize.square(28), replace(HALF, interpolation="bicubic"))},
        {"teacher": UnprunedWeights("0" * 64, ImageSize.square(28), HALF)},
        {"teacher": UnprunedWeights("12" * 32, ImageSize.square(24), HALF)},
        {"teacher": UnprunedWeights("12" * 32, ImageSize.square(28), NONE)},
        {"closed_form": "34" * 32},
        {"data": replace(DATA, fingerprint="0" * 64)},
    ],
)
def test_weights_key_depends_on_base_teacher_closed_form_and_data(plan, resolved, changed):
    assert key_of_weights(resolved, plan, **changed) != key_of_weights(resolved, plan)


def test_the_seed_and_the_recipe_enter_the_weights_key(plan, resolved):
    views = {"augmentation": Augmentation(flip=0.5)}
    for change in (
        {"seed": 1},
        {"lr": 1.0},
        {"rungs": (0, 2)},
        {"layer_decay": 0.75},
        {"frozen_blocks": 1},
        {"frozen_statistics": True},
        {"class_weights": "balanced"},
        {"class_weights": (("Shirt", 4.0),)},
        views,
    ):
        other = replace(plan, recipe=replace(plan.recipe, **change))
        assert key_of_weights(resolved, other) != key_of_weights(resolved, plan)


def test_without_distillation_the_teacher_does_not_enter(plan, resolved):
    plain = replace(plan, distillation="none")
    assert key_of_weights(resolved, plain, teacher=None) == key_of_weights(resolved, plain)
    assert key_of_weights(resolved, plain) != key_of_weights(resolved, plan)


@pytest.mark.parametrize("change", [{"temperature": 3.5}, {"distillation_weight": 0.25}])
def test_what_only_a_distillation_looks_at_enters_with_one_only(plan, resolved, change):
    other, plain = replace(plan, recipe=replace(plan.recipe, **change)), replace(plan, distillation="none")
    assert key_of_weights(resolved, other) != key_of_weights(resolved, plan)
    assert key_of_weights(resolved, replace(other, distillation="none")) == key_of_weights(resolved, plain)


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "x"},
        {"provider": "x"},
        {"batch": 8},
        {"batch": None},
        {"options": (("threads", 2),)},
        {"quantized_ops": "linear"},
        {"quantized_ops": "all"},
    ],
)
def test_the_deployment_enters_the_graph_key(plan, resolved, change):
    other = replace(plan.deployment, **change)
    assert graph_key(resolved, other, DATA, 17) != graph_key(resolved, plan.deployment, DATA, 17)


def test_an_onnxruntime_without_the_fused_operators_has_another_graph(plan, resolved):
    def key(version, **changes):
        return graph_key(resolved, replace(plan.deployment, **changes), DATA, 17, version)

    assert key("1.14.1") != key("1.20.0") == key(None) == key("1.17.0")
    assert key("1.14.1", provider="cuda") == key("1.20.0", provider="cuda")


def test_training_for_int8_has_the_graph_of_the_same_layers_after_training(plan, resolved):
    def key(precision: str, ops: str) -> str:
        deployment = replace(plan.deployment, precision=precision, quantized_ops=ops)
        return graph_key(with_precision(resolved, precision), deployment, DATA, 17)

    assert key("int8_qat", "all") == key("int8_ptq", "all") != key("int8_ptq", "linear") == key("int8_qat", "linear")


def test_a_network_without_blocks_has_a_graph_for_each_precision(plan, resolved):
    """An ONNX file has none, nor has a network in which no part was found that can be cut."""
    whole = replace(resolved, blocks=())
    precisions = ("fp32", "bf16", "fp16", "int8_dynamic", "int8_weights")
    assert len({graph_key(with_precision(whole, each), plan.deployment, DATA, 17) for each in precisions}) == 5


def test_device_and_data_contents_do_not_enter_the_graph_key(plan, resolved):
    before = graph_key(resolved, plan.deployment, DATA, 17)
    elsewhere = replace(plan.deployment, device="pi")
    assert graph_key(resolved, elsewhere, replace(DATA, fingerprint="0" * 64), 17) == before
    assert graph_key(resolved, plan.deployment, DATA, 18) != before
    assert graph_key(resolved, plan.deployment, replace(DATA, classes=11), 17) != before


def test_the_code_of_a_network_enters_its_graph_key(plan, resolved):
    targets = (ExportTarget(17, None, None, QuantizationAware(), architecture=each) for each in ("", "ab", "cd"))
    graphs = [trial_keys(resolved, plan, ORIGIN, DATA, target).graph for target in targets]
    assert len({*graphs}) == 3
    assert graphs[0] == graph_key(resolved, plan.deployment, DATA, 17)


def test_the_exporter_of_an_architecture_enters_its_graph_key(plan, resolved):
    of_both = [graph_key(resolved, plan.deployment, DATA, 18, exporter=each) for each in (TORCHSCRIPT, DYNAMO)]
    assert len({*of_both, graph_key(resolved, plan.deployment, DATA, 17)}) == 3
    targets = (ExportTarget(18, None, None, QuantizationAware(), each) for each in (TORCHSCRIPT, DYNAMO))
    old, new = (trial_keys(resolved, plan, ORIGIN, DATA, target) for target in targets)
    assert (old.weights, [old.graph, new.graph]) == (new.weights, of_both)


def test_no_path_enters_a_key(plan, resolved):
    moved = replace(plan, weights="file:/somewhere/else.safetensors")
    assert key_of_weights(resolved, moved) == key_of_weights(resolved, plan)


def test_the_rung_and_the_calibration_enter_the_artifact_key():
    keys = {artifact_key("w", rung, "g", calibration) for rung in (0, 1) for calibration in (None, "c")}
    assert len(keys) == 4


def test_qat_key_depends_on_training_settings_and_calibration():
    settings = QuantizationAware()
    key = qat_key("w", 1, settings, "c")
    others = [
        qat_key("v", 1, settings, "c"),
        qat_key("w", 2, settings, "c"),
        qat_key("w", 1, replace(settings, lr=0.1), "c"),
        qat_key("w", 1, settings, "d"),
    ]
    assert len({key, *others}) == 5
    assert key == qat_key("w", 1, QuantizationAware(1.0, None), "c")


# ---- all keys of a trial


def at(plan, precision):
    return replace(plan, deployments=(plan.deployment.at(precision),))


def test_all_keys_of_a_trial_are_those_of_its_stages(plan, resolved):
    plan = replace(at(plan, "fp32"), recipe=replace(plan.recipe, rungs=(0, 1, 3)))
    keys = trial_keys(resolved, plan, ORIGIN, DATA, ExportTarget(17, None, None, QuantizationAware()))
    weights, graph = weights_key(resolved, plan, ORIGIN, DATA), graph_key(resolved, plan.deployment, DATA, 17)
    assert (keys.weights, keys.graph) == (weights, graph)
    assert keys.screened == artifact_key(ORIGIN.base.weights, 0, graph, None)
    assert keys.exports == {rung: ExportKeys(weights, artifact_key(weights, rung, graph, None)) for rung in (0, 1, 3)}


def test_a_model_that_is_trained_for_int8_is_exported_from_weights_of_their_own(plan, resolved):
    plan, settings = replace(at(plan, "int8_qat"), recipe=replace(plan.recipe, rungs=(0, 1))), QuantizationAware(2.0)
    keys = trial_keys(resolved, plan, ORIGIN, DATA, ExportTarget(17, None, "c", settings))
    trained = qat_key(keys.weights, 1, settings, "c")
    assert keys.exports[1] == ExportKeys(trained, artifact_key(trained, 1, keys.graph, "c"))
    assert keys.exports[0].weights == keys.weights, "an unpruned model of the leaderboard is never trained"


def test_the_version_of_the_runtime_enters_the_keys_of_a_file(plan, resolved):
    plan = replace(plan, deployments=(replace(plan.deployment, runtime="tensorrt"),))
    targets = (ExportTarget(17, version, None, QuantizationAware()) for version in ("8.6", "10.3"))
    old, new = (trial_keys(resolved, plan, ORIGIN, DATA, target) for target in targets)
    assert old.weights == new.weights
    assert {old.graph, old.screened} & {new.graph, new.screened} == set()


@pytest.mark.parametrize("run", [{"threads": 2}, {"streams": 1}, {"streams": 2}])
def test_threads_and_streams_make_another_measurement_of_the_same_file(run, plan, resolved):
    target = ExportTarget(17, None, None, QuantizationAware())
    several = replace(plan, deployments=(replace(plan.deployment, **run),))
    one, two = (trial_keys(resolved, each, ORIGIN, DATA, target) for each in (plan, several))
    assert one.graph != two.graph
    assert (one.weights, one.screened, one.exports) == (two.weights, two.screened, two.exports)


def test_each_batch_has_a_file_of_its_own(plan, resolved):
    target = ExportTarget(17, None, None, QuantizationAware())
    of_batches = [replace(plan, deployments=(replace(plan.deployment, batch=batch),)) for batch in (None, 1, 8)]
    keys = [trial_keys(resolved, each, ORIGIN, DATA, target) for each in of_batches]
    assert len({each.graph for each in keys}) == len({each.screened for each in keys}) == 3
    assert len({each.weights for each in keys}) == 1
