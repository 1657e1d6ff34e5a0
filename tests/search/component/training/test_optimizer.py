"""Learning rates and frozen weights, on tiny models of two families, whole and pruned."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.core.plan import Recipe
from vitsearch.errors import StageError
from vitsearch.models.surgery import keep_columns, keep_rows
from vitsearch.training.optimizer import (
    checkpointing,
    frozen_front,
    frozen_statistics,
    gradient_scaler,
    optimizer_of,
    schedule_of,
    training_precision,
)

RECIPE = Recipe((0, 1), 64, 32, 1e-3, 0.05, 4, 0.5, 2.0, 0)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=3, num_heads=2, **sizes)


def pruned() -> nn.Module:
    model, family = tiny(), backbones.find("vit_tiny_patch16_224")
    for index, unit in enumerate(family.units(model)):
        family.slice_heads(model, index, [1])
        keep_rows(unit.fc1, range(16))
        keep_columns(unit.fc2, range(16))
    return model


def rates(model: nn.Module, recipe: Recipe, step: int) -> dict[str, float]:
    """The learning rate of each weight at `step` of 100."""
    optimizer = optimizer_of(model, recipe)
    schedule_of(optimizer, 100, recipe).step_update(step)
    of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in model.named_parameters() if id(p) in of}


def layer_decay(value: float) -> Recipe:
    return Recipe(**RECIPE.__dict__ | {"layer_decay": value})


@pytest.mark.parametrize("make", [tiny, pruned])
def test_layer_decay_slows_each_layer_by_its_factor(make):
    rates_of_layers = rates(make(), layer_decay(0.5), step=4)
    assert rates_of_layers["head.weight"] == pytest.approx(1e-3)
    for depth, name in enumerate(["blocks.2.mlp.fc2.weight", "blocks.1.attn.qkv.weight", "blocks.0.norm1.bias"]):
        assert rates_of_layers[name] == pytest.approx(1e-3 * 0.5 ** (depth + 1))
    assert rates_of_layers["pos_embed"] == rates_of_layers["patch_embed.proj.weight"] == pytest.approx(1e-3 * 0.5**4)


def test_without_layer_decay_all_rates_are_equal():
    assert set(rates(tiny(), RECIPE, step=4).values()) == {1e-3}


def test_the_rate_rises_then_falls_to_zero():
    seen = [rates(tiny(), RECIPE, step)["head.weight"] for step in (0, 2, 4, 50, 100)]
    assert 0 < seen[0] < seen[1] < seen[2] > seen[3] > seen[4] == 0


@pytest.mark.parametrize("make", [tiny, pruned])
def test_frozen_blocks_and_the_stem_do_not_learn_inside(make):
    model = make().train()
    with frozen_front(model, 2):
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert learning.isdisjoint({"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.1.mlp.fc2.bias"})
        assert {"blocks.2.norm1.weight", "norm.weight", "head.bias"} <= learning
        modes = [block.training for block in model.blocks]
        assert (modes, model.patch_embed.training) == ([False, False, True], False)
        assert rates(model, layer_decay(0.5), 4).keys() == learning
    assert all(p.requires_grad for p in model.parameters())


def test_no_frozen_block_freezes_nothing_not_even_the_stem():
    model = tiny().train()
    with frozen_front(model, 0):
        assert all(p.requires_grad for p in model.parameters())
        assert all(module.training for module in model.modules())


def test_batch_norms_of_frozen_blocks_keep_their_statistics():
    model = timm.create_model("efficientvit_b0", num_classes=4).train()
    before = {name: value.clone() for name, value in model.named_buffers() if name.endswith("running_mean")}
    with frozen_front(model, 3):
        model(torch.randn(4, 3, 32, 32))
    moved = {name for name, value in model.named_buffers() if name in before and not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith(("stem", "stages.0")) for name in moved)
    assert any(name.startswith("stages.0") for name in before)


def test_frozen_statistics_leave_scale_and_shift_to_learn():
    model = timm.create_model("efficientvit_b0", num_classes=4).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with frozen_statistics(model, True):
        assert not any(norm.training for norm in norms)
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert model.training
    assert all(norm.training for norm in norms)
    with frozen_statistics(model, False):
        assert all(norm.training for norm in norms)


def test_all_blocks_may_be_frozen_but_not_one_more():
    with frozen_front(tiny(), 3):
        pass
    with (
        pytest.raises(StageError, match=r"frozen_blocks: 4 of a VisionTransformer with 3 blocks; allowed: 0 to 3"),
        frozen_front(tiny(), 4),
    ):
        pass


def test_frozen_blocks_are_counted_as_in_the_unpruned_model():
    model = tiny()
    model.blocks[1] = nn.Identity()
    with frozen_front(model, 2):
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("blocks.0") for name in learning)
    assert any(name.startswith("blocks.2") for name in learning)
    with frozen_front(model, 3):
        assert not any(name.startswith("blocks.2") for name, p in model.named_parameters() if p.requires_grad)


def test_models_that_timm_does_not_group_cannot_be_frozen():
    message = "frozen_blocks: timm does not group the layers of Linear"
    with pytest.raises(StageError, match=message), frozen_front(nn.Linear(1, 1), 1):
        pass


def test_checkpointing_keeps_the_gradients_and_is_switched_off_afterwards():
    inputs, gradients = torch.randn(2, 1, 28, 28), []
    for wanted in (False, True):
        model = tiny().train()
        with checkpointing(model, wanted):
            assert model.grad_checkpointing is wanted
            model(inputs).sum().backward()
        assert model.grad_checkpointing is False
        gradients.append(model.blocks[0].attn.qkv.weight.grad)
    assert torch.allclose(*gradients)


def test_a_model_that_timm_cannot_checkpoint_is_refused():
    with pytest.raises(StageError, match="timm cannot checkpoint Linear; allowed: false") as caught:
        checkpointing(nn.Linear(1, 1), True).__enter__()
    assert (caught.value.stage, caught.value.kind) == ("train", "unsupported")


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_trains_in_fp16(monkeypatch, bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    assert training_precision(nn.Linear(1, 1), "cuda") == expected


@pytest.mark.parametrize(("capabilities", "expected"), [({"avx512_bf16": True}, "bf16"), ({}, "fp32")])
def test_a_cpu_without_bf16_trains_in_fp32(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training_precision(nn.Linear(1, 1), "cpu") == expected


def test_a_cpu_trains_convolutions_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert training_precision(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Linear(4, 40)), "cpu") == "fp32"
    assert training_precision(tiny(), "cpu") == "bf16"


def test_only_fp16_is_scaled():
    assert gradient_scaler("cpu", "fp16").is_enabled()
    assert not gradient_scaler("cpu", "bf16").is_enabled()
