import dataclasses
import gc
import weakref

import pytest
import torch

from vitsearch.compress import prune
from vitsearch.errors import StageError

EXAMPLE = torch.zeros(1, 1, 28, 28)


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_a_plan_that_keeps_all_changes_nothing(base):
    model = base.model()
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    prune.apply(model, base.family, base.resolved(), EXAMPLE)
    assert before == {name: value.data_ptr() for name, value in model.state_dict().items()}


def test_only_the_two_layers_of_each_cut_change(base):
    model = base.model()
    before = shapes(model)
    prune.apply(model, base.family, base.resolved(heads=4, ffn=192), EXAMPLE)
    changed = [name for name, shape in shapes(model).items() if shape != before[name]]
    assert {name.split(".", 2)[2] for name in changed} == {
        "attn.qkv.weight",
        "attn.qkv.bias",
        "attn.proj.weight",
        "mlp.fc1.weight",
        "mlp.fc1.bias",
        "mlp.fc2.weight",
    }
    assert model.blocks[0].attn.qkv.weight.shape == (3 * 4 * 32, 192)
    assert model.blocks[5].mlp.fc2.weight.shape == (192, 192)


def test_the_plan_decides_which_channels_are_kept(base):
    model, resolved = base.model(), base.resolved(ffn=8)
    fc1 = model.blocks[1].mlp.fc1.weight.clone()
    prune.apply(model, base.family, resolved, EXAMPLE)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, fc1[list(resolved.blocks[1].ffn)])


def test_training_mode_and_frozen_weights_are_kept(base):
    model = base.model().train()
    model.head.weight.requires_grad_(False)
    prune.apply(model, base.family, base.resolved(ffn=64), EXAMPLE)
    assert model.training
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ["head.weight"]


def test_pruned_models_are_freed(base):
    model = base.model()
    prune.apply(model, base.family, base.resolved(heads=3, ffn=64), EXAMPLE)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": (0, 6)}, "blocks.0 has 6 heads, cannot keep"),
        ({"heads": ()}, "blocks.0 has 6 heads, cannot keep"),
        ({"ffn": (3, 2)}, "blocks.0 has 768 FFN channels, cannot keep"),
        ({"ffn": (1, 1)}, "blocks.0 has 768 FFN channels, cannot keep"),
    ],
)
def test_a_plan_of_another_model_is_refused(base, change, message):
    resolved = base.resolved()
    blocks = (dataclasses.replace(resolved.blocks[0], **change), *resolved.blocks[1:])
    with pytest.raises(StageError, match=message):
        prune.apply(base.model(), base.family, dataclasses.replace(resolved, blocks=blocks), EXAMPLE)


def test_a_plan_with_another_number_of_blocks_is_refused(base):
    resolved = dataclasses.replace(base.resolved(), blocks=base.resolved().blocks[:4])
    with pytest.raises(StageError, match="resolved plan of 4 blocks, model of 6"):
        prune.apply(base.model(), base.family, resolved, EXAMPLE)
