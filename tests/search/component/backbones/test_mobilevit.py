import pytest
import torch
from timm.layers import Attention
from timm.models.byobnet import BottleneckBlock

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.testing.families import BackboneTestCase, VariantTestCase

SMALL = ModelSpec("mobilevit_xxs", "none", ImageSize.square(64), 10)


class TestMobileViT(BackboneTestCase):
    spec = SMALL
    other_resolution = ImageSize.square(50)
    unsupported = (("window_size", 7), ("token_pruning_ratio", 0.5), ("distillation", "token"))


class TestGreyImagesOf28Pixels(VariantTestCase):
    """Maps of odd sides, down to a single pixel, which the model interpolates to whole patches."""

    spec = ModelSpec("mobilevit_xxs", "none", ImageSize.square(28), 10, 1)
    other_resolution = ImageSize.square(56)
    unsupported = (("window_size", 2),)


class TestMobileViTv2(BackboneTestCase):
    spec = ModelSpec("mobilevitv2_050", "none", ImageSize.square(64), 10)
    other_resolution = ImageSize.square(50)
    cuts_heads = False
    unsupported = (("head_pruning_ratio", 0.5), ("window_size", 7))


def test_removing_the_single_head_is_refused_with_a_reason():
    reason = backbones.supports("mobilevitv2_050", "head_pruning_ratio", 0.5)
    assert reason == "mobilevitv2_050 attends with a single head (linear self-attention), which cannot be removed"
    assert backbones.supports("mobilevitv2_050", "head_pruning_ratio", 0.0) is None
    assert backbones.supports("mobilevit_xxs", "head_pruning_ratio", 0.5) is None


def test_every_attention_and_every_inverted_residual_is_a_unit():
    family = backbones.find(SMALL.backbone)
    model = family.build(SMALL).model
    with_heads = [unit.name for unit in family.units(model) if unit.heads]
    without = [unit.name for unit in family.units(model) if not unit.heads]
    modules = dict(model.named_modules())
    assert with_heads == [name.removesuffix(".attn") for name, module in modules.items() if type(module) is Attention]
    assert without == [name for name, module in modules.items() if type(module) is BottleneckBlock]
    assert (len(with_heads), len(without)) == (9, 7)


def test_the_requested_heads_are_kept():
    family = backbones.find(SMALL.backbone)
    model = family.build(SMALL).model
    index = next(index for index, unit in enumerate(family.units(model)) if unit.heads)
    attention = model.get_submodule(family.units(model)[index].name).attn
    values = attention.qkv.weight.detach().reshape(3, 4, attention.head_dim, -1)
    family.slice_heads(model, index, (0, 3))
    assert torch.equal(attention.qkv.weight, values[:, [0, 3]].flatten(0, 2))


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevitv2_050"])
def test_slicing_heads_of_a_block_without_heads_is_refused(name):
    family = backbones.find(name)
    with pytest.raises(PlanError, match="cannot keep heads"):
        family.slice_heads(family.build(ModelSpec(name, "none", ImageSize.square(32), 10)).model, 0, (0,))


def test_tokens_are_those_of_the_first_attention():
    family = backbones.find(SMALL.backbone)
    block_structure = family.block_structure(
        family.unbuilt(SMALL.backbone), ModelSpec("mobilevit_xxs", "none", ImageSize.square(50), 10)
    )
    assert (block_structure.tokens, block_structure.embed_dim) == (4 * 4, 80)
