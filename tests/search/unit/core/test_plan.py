"""The JSON form of a plan is a contract."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation, Compression, Deployment, Plan, QuantizationAware, Recipe, plan_text
from vitsearch.core.tuning import TUNINGS, tuning_of

share = st.floats(0, 0.95)
plans = st.builds(
    Plan,
    backbone=st.text(min_size=1, max_size=8),
    weights=st.sampled_from(["builtin", "hub", "none", "file:/x"]),
    resolution=st.builds(ImageSize, st.integers(8, 512), st.integers(8, 512)),
    window_size=st.none() | st.integers(1, 32),
    compression=st.builds(
        Compression,
        share,
        share,
        share,
        st.none() | st.sampled_from(["topk", "tome"]),
        st.sampled_from(["uniform", "global"]),
        st.integers(1, 64),
        st.lists(st.integers(0, 11), max_size=3).map(tuple),
        share,
        share,
        st.sampled_from(["none", "50%", "2:4"]),
    ),
    distillation=st.sampled_from(["none", "logits"]),
    recipe=st.builds(
        Recipe,
        st.lists(st.integers(0, 9)).map(tuple),
        *[st.integers(1, 99)] * 2,
        share,
        share,
        st.integers(0, 9),
        share,
        share,
        st.integers(0, 9),
        st.builds(Augmentation, share, share, st.integers(0, 30), share, share),
        share,
        share,
        st.integers(0, 9),
        st.booleans(),
        st.booleans(),
    ),
    deployments=st.lists(
        st.builds(
            Deployment,
            *[st.text(max_size=5)] * 4,
            st.none() | st.integers(1, 9),
            st.sampled_from([None, "linear", "all"]),
            st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)).map(
                lambda options: tuple(sorted(options.items()))
            ),
        ),
        max_size=2,
    ).map(tuple),
)


@given(plans)
def test_json_round_trip_of_a_plan(plan):
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    assert hash(back) == hash(plan)


def test_json_form_equals_the_committed_one(golden):
    assert Plan.from_json(golden("plan")).to_json() == golden("plan")


@pytest.mark.parametrize("backbone", [*TUNINGS, "deit_tiny_patch16_224"])
def test_training_for_int8_has_a_learning_rate_of_its_own(plan, backbone):
    trained = QuantizationAware().recipe(plan.recipe, backbone)
    assert trained == replace(plan.recipe, lr=tuning_of(backbone).qat_lr, frozen_statistics=True)
    assert QuantizationAware(lr=0.5).recipe(plan.recipe, backbone).lr == 0.5
    assert QuantizationAware().of(backbone) == QuantizationAware(lr=tuning_of(backbone).qat_lr)


def test_unpruned_removes_only_the_compression(plan):
    cut = replace(plan, compression=Compression(0.5, 0.25, scope="global", width_multiple=16))
    assert cut.unpruned() == replace(plan, compression=Compression(width_multiple=16))


def test_json_form_of_a_compression_has_every_key(golden):
    assert set(Compression().to_json()) == set(golden("plan")["compression"])
    assert Compression(token_pruning_at=(3,)).to_json()["token_pruning_at"] == [3]


CUTS = [f"{what}_pruning_ratio" for what in ("head", "ffn", "token", "depth", "embed")]


@pytest.mark.parametrize("knob", CUTS)
def test_any_ratio_makes_the_compression_effective(knob):
    assert Compression(scope="global").is_identity
    assert not Compression(**{knob: 0.1}).is_identity


def test_several_deployments_have_no_single_one(plan):
    with pytest.raises(ValueError, match="too many values"):
        _ = replace(plan, deployments=plan.deployments * 2).deployment


def test_a_plan_in_one_line(plan):
    assert plan_text(plan) == "fake_vit@28 fp32"
    assert plan_text(replace(plan, compression=Compression(0.0, 0.25))) == "fake_vit@28 ffn-25% fp32"
    both = replace(plan, compression=Compression(0.17, 0.25, scope="global"))
    assert plan_text(both) == "fake_vit@28 heads-17% ffn-25% global fp32"
    assert plan_text(replace(plan, compression=Compression(scope="global"))) == "fake_vit@28 fp32"
    tokens = Compression(0.5, 0, 0.3, "topk", token_pruning_at=(3, 6))
    assert plan_text(replace(plan, compression=tokens), with_model=False) == "heads-50% topk-30% after 3,6 fp32"
    rest = Compression(depth_pruning_ratio=0.25, embed_pruning_ratio=0.5, weight_sparsity="2:4", scope="global")
    line = plan_text(replace(plan, compression=rest, distillation="feature"), with_model=False)
    assert line == "depth-25% embed-50% global sparse 2:4 feature distillation fp32"


def test_the_runtime_and_the_provider_are_named_unless_they_are_the_defaults(plan):
    def text(runtime: str, provider: str, precision: str) -> str:
        return plan_text(
            replace(plan, deployments=(Deployment("pi", runtime, provider, precision, 1),)), with_model=False
        )

    assert text("onnxruntime", "cpu", "int8_ptq") == "int8_ptq"
    assert text("onnxruntime", "cuda", "fp16") == "fp16 cuda"
    assert text("openvino", "cpu", "int8_ptq") == "int8_ptq openvino"
    assert text("openvino", "gpu", "fp16") == "fp16 openvino gpu"
    assert text("tensorrt", "gpu", "fp16") == "fp16 tensorrt"
    assert text("abacus", "wood", "fp32") == "fp32 abacus wood"


def test_quantized_convolutions_are_named(plan):
    def text(ops: str | None) -> str:
        deployment = Deployment("pi", "openvino", "cpu", "int8_ptq", 1, ops)
        return plan_text(replace(plan, deployments=(deployment,)), with_model=False)

    assert [text(ops) for ops in (None, "linear", "all")] == [
        "int8_ptq openvino",
        "int8_ptq openvino",
        "int8_ptq+conv openvino",
    ]


@pytest.mark.parametrize(
    ("precision", "ops"), [("int8_qat", "all"), ("int8_dynamic", None), ("fp32", None), ("int8_ptq", "all")]
)
def test_another_precision_keeps_the_quantized_layers_that_it_can_have(precision, ops):
    deployment = Deployment("pi", "onnxruntime", "cpu", "int8_ptq", 1, "all")
    assert deployment.at(precision) == replace(deployment, precision=precision, quantized_ops=ops)


def test_a_batch_threads_and_streams_that_are_not_one_are_named(plan):
    def text(batch: int | None, threads: int, streams: int | None = None) -> str:
        deployed = Deployment("pi", "onnxruntime", "cpu", "fp32", batch, threads=threads, streams=streams)
        return plan_text(replace(plan, deployments=(deployed,)), with_model=False)

    texts = [text(1, 1), text(None, 1), text(8, 1), text(1, 2, 1), text(1, 1, 4)]
    assert texts == ["fp32", "fp32 open batch", "fp32 batch 8", "fp32 2 threads", "fp32 4 streams"]


def test_a_rectangle_is_named_by_height_and_width(plan):
    rectangle = replace(plan, resolution=ImageSize(64, 96))
    assert plan_text(rectangle).startswith(f"{plan.backbone}@64x96 ")
    assert rectangle.to_json()["resolution"] == [64, 96]


def test_a_square_is_named_and_stored_by_its_side(plan):
    square = replace(plan, resolution=ImageSize.square(28))
    assert plan_text(square).startswith(f"{plan.backbone}@28 ")
    assert square.to_json()["resolution"] == 28
