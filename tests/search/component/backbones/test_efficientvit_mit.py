import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.testing.families import BackboneTestCase, VariantTestCase

SMALL = ModelSpec("efficientvit_b0", "none", ImageSize.square(64), 10)
FEW_BLOCKS = {"depths": (1, 1, 2, 2), "head_widths": (256, 128)}


class TestSmall(BackboneTestCase):
    spec = SMALL
    arguments = FEW_BLOCKS
    other_resolution = ImageSize.square(50)
    unsupported = (("window_size", 7), ("token_pruning_ratio", 0.5), ("distillation", "token"))


class TestGreyImagesOf28Pixels(VariantTestCase):
    spec = ModelSpec("efficientvit_b0", "none", ImageSize.square(28), 10, 1)
    arguments = FEW_BLOCKS
    other_resolution = ImageSize.square(32)
    unsupported = (("distillation", "token"),)


class TestLarge(BackboneTestCase):
    """Fused blocks, GELU, and no norm inside the inverted residuals of the last stages."""

    spec = ModelSpec("efficientvit_l1", "none", ImageSize.square(32), 10)
    arguments = {"depths": (1, 1, 1, 1, 2), "widths": (16, 32, 64, 128, 256), "head_widths": (256, 128)}
    other_resolution = ImageSize.square(48)
    unsupported = (("window_size", 7),)


@pytest.fixture(scope="module")
def family():
    return backbones.find(SMALL.backbone)


@pytest.fixture
def model(family):
    return family.build(SMALL).model


def test_the_requested_heads_are_kept(family, model):
    units = family.units(model)
    index = next(number for number, unit in enumerate(units) if unit.heads == 4)
    attention = model.get_submodule(units[index].name).context_module.main
    (depthwise, grouped), dim = attention.aggreg[0], attention.dim
    layers = (attention.qkv.conv, depthwise, grouped)
    before, proj = [layer.weight.detach().clone() for layer in layers], attention.proj.conv.weight.detach().clone()
    family.slice_heads(model, index, (1, 3))
    for layer, rows in zip(layers, before, strict=True):
        by_head = rows.reshape(4, 3 * dim, *rows.shape[1:])
        assert torch.equal(layer.weight, by_head[[1, 3]].flatten(0, 1))
    assert (depthwise.groups, depthwise.in_channels) == (2 * 3 * dim, 2 * 3 * dim)
    assert (grouped.groups, grouped.in_channels) == (2 * 3, 2 * 3 * dim)
    by_scale = proj.reshape(len(proj), 2, 4, dim, 1, 1)
    assert torch.equal(attention.proj.conv.weight, by_scale[:, :, [1, 3]].flatten(1, 3))


def test_slicing_heads_of_a_block_without_heads_is_refused(family, model):
    with pytest.raises(PlanError, match=r"stages\.0\.blocks\.0: cannot keep heads \[0\] of 0"):
        family.slice_heads(model, 0, (0,))


def test_channels_with_other_readers_are_not_cut(family, model):
    cut = {unit.fc1 for unit in family.units(model)}
    stem = set(model.stem.modules())
    assert not cut & stem
    assert all(layer.groups == 1 for layer in cut)


@pytest.mark.parametrize(("name", "tokens"), [("efficientvit_b0", 4 * 4), ("efficientvit_l1", 2 * 2)])
def test_tokens_are_those_of_the_first_attention(name, tokens):
    spec = ModelSpec(name, "none", ImageSize.square(50), 10)
    family = backbones.find(name)
    block_structure = family.block_structure(family.unbuilt(name), spec)
    assert (block_structure.tokens, block_structure.embed_dim) == (tokens, 128 if name == "efficientvit_b0" else 512)
