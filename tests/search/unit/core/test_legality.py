"""Which plans are refused, and that the sampler never proposes one of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch import backbones
from vitsearch.core import legality
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Plan
from vitsearch.errors import PlanError
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace

SPACE = {
    "study": "legality",
    "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
    "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
    "space": {
        "backbone": [
            {"name": name, "weights": "none"}
            for name in ("deit_tiny_distilled_patch16_224", "mobilevitv2_050", "swin_tiny_patch4_window7_224")
        ],
        "resolution": [64, 96, 224],
        "window_size": [2, 7],
        "depth_pruning_ratio": [0.0, 0.25],
        "embed_pruning_ratio": [0.0, 0.25],
        "head_pruning_ratio": [0.0, 0.5],
        "ffn_pruning_ratio": [0.0, 0.5],
        "weight_sparsity": ["none", "2:4"],
        "token_pruning_ratio": [0.0, 0.3],
        "token_pruning_method": ["topk", "evit", "tome", "dynamicvit"],
        "token_pruning_at": [[3, 6], [2]],
        "distillation": ["none", "logits", "feature", "token", "token_hard"],
        "quantization": ["fp32", "fp16", "bf16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed"],
    },
}


@pytest.fixture(scope="session")
def plans() -> PlanSpace:
    return PlanSpace(SearchSpace.from_json(SPACE), "local", backbones.supports, backbones.native_resolution)


@pytest.fixture
def deit(plans) -> Plan:
    return replace(plans.baseline(), backbone="deit_tiny_patch16_224", resolution=ImageSize.square(224))


@given(st.integers(0, 10**9))
def test_sampled_plans_are_never_refused(plans, seed):
    assert legality.reasons(plans.random(random.Random(seed)), backbones.supports) == []


def refused(plan: Plan) -> list[str]:
    return [str(reason) for reason in legality.reasons(plan, backbones.supports)]


def int8(plan: Plan, ops: str | None, **changes: str) -> Plan:
    deployment = replace(plan.deployment, precision="int8_ptq", quantized_ops=ops)
    return replace(plan, deployments=(replace(deployment, **changes),))


def test_layers_that_int8_cannot_cover_are_refused(deit):
    assert refused(int8(deit, None)) == []
    hybrid = replace(deit, backbone="mobilevitv2_050")
    assert [refused(int8(hybrid, ops)) for ops in (None, "linear", "all")] == [[], [], []]
    assert refused(int8(deit, "all")) == [
        "quantized_ops: deit_tiny_patch16_224 does not support 'all': has no convolutions besides its patch "
        "embedding, so its int8 files have one form"
    ]
    assert refused(int8(hybrid, "all", precision="int8_dynamic")) == [
        "quantized_ops: 'int8_dynamic' of onnxruntime cannot quantize 'all' (convolutions that are quantized at run "
        "time are slower than in fp32); allowed: linear"
    ]
    assert refused(int8(hybrid, "linear", precision="fp32")) == [
        "quantized_ops: 'fp32' of onnxruntime does not compute in int8, so it has no choice of quantized layers"
    ]
    assert refused(int8(hybrid, "most")) == [
        "quantized_ops: 'int8_ptq' of onnxruntime cannot quantize 'most'; allowed: linear, all"
    ]


def test_a_plan_without_compression_is_accepted(deit):
    assert refused(deit) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backbone": "deit_tiny_patch61_224"}, "did you mean 'deit_tiny_patch16_224'?"),
        ({"resolution": ImageSize.square(100)}, "100 pixels are not a multiple of the patch size 16"),
        ({"weights": "builtin"}, "deit_tiny_patch16_224"),
        ({"window_size": 7}, "has no windows"),
        ({"distillation": "token"}, "has no distillation head"),
    ],
)
def test_values_that_the_backbone_does_not_support_are_refused(deit, change, reason):
    assert reason in "; ".join(refused(replace(deit, **change)))


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (Compression(head_pruning_ratio=1.5), "head_pruning_ratio: 1.5 is out of range; allowed: 0 to 0.95"),
        (Compression(ffn_pruning_ratio=-0.1), "ffn_pruning_ratio: -0.1 is out of range"),
        (Compression(width_multiple=0), "width_multiple: 0 is out of range; allowed: 1 or more"),
        (Compression(token_pruning_ratio=0.3), "token_pruning_method: a token_pruning_ratio of 0.3 needs a method"),
        (
            Compression(token_pruning_method="topk"),
            "token_pruning_method: 'topk' has no effect without a token_pruning_ratio above 0",
        ),
        (Compression(0, 0, 0.3, "topk", token_pruning_at=(6, 3)), "[6, 3] does not rise"),
    ],
)
def test_invalid_compressions_are_refused(deit, cut, reason):
    assert reason in "; ".join(refused(replace(deit, compression=cut)))


def test_trained_methods_need_a_rung_above_0(deit):
    untrained = replace(deit, recipe=replace(deit.recipe, rungs=(0,)))
    cut = Compression(0, 0, 0.3, "dynamicvit")
    assert any("'dynamicvit' needs training" in reason for reason in refused(replace(untrained, compression=cut)))
    precise = replace(untrained, deployments=(replace(untrained.deployment, precision="int8_qat"),))
    assert any("'int8_qat' needs training" in reason for reason in refused(precise))


def test_unsupported_runtimes_are_refused(deit):
    other = replace(deit, deployments=(replace(deit.deployment, runtime="abacus"),))
    assert any("runtime 'abacus'" in reason for reason in refused(other))


def test_all_reasons_are_reported_together(deit):
    wrong = replace(
        deit, resolution=ImageSize.square(100), compression=Compression(head_pruning_ratio=1.5), distillation="token"
    )
    with pytest.raises(PlanError) as caught:
        legality.refuse(wrong, backbones.supports)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the plan cannot be built:"
    assert len(lines) == 4
