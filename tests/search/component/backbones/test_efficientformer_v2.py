import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.tables import resample_biases
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase

SMALL = ModelSpec("efficientformerv2_s0", "none", ImageSize.square(64), 10)


class TestEfficientFormerV2(BackboneTestCase):
    spec = SMALL
    arguments = {"depths": (1, 1, 3, 3)}
    other_resolution = ImageSize.square(96)
    unsupported = (("resolution", ImageSize.square(80)), ("window_size", 4), ("token_pruning_ratio", 0.5))


def build(resolution):
    return (
        backbones.find(SMALL.backbone).build(ModelSpec(SMALL.backbone, "none", ImageSize.square(resolution), 10)).model
    )


def test_queries_and_keys_stay_where_heads_are_mixed():
    family, model = backbones.find(SMALL.backbone), build(64)
    units = family.units(model)
    block = next(index for index, unit in enumerate(units) if unit.heads and "blocks" in unit.name)
    attention = model.get_submodule(f"{units[block].name}.token_mixer")
    queries = attention.q.conv.weight.shape
    family.slice_heads(model, block, (0, 5))
    assert attention.q.conv.weight.shape == queries
    assert attention.talking_head2.weight.shape[:2] == (2, 8)
    assert family.units(model)[block].heads == 2


def test_heads_of_a_downsampling_lose_queries_and_keys():
    family, model = backbones.find(SMALL.backbone), build(64)
    block = next(index for index, unit in enumerate(family.units(model)) if "downsample" in unit.name)
    attention = model.get_submodule(f"{family.units(model)[block].name}.attn")
    family.slice_heads(model, block, (0, 5))
    assert attention.k.conv.weight.shape[0] == 2 * attention.key_dim
    assert attention.attention_biases.shape[0] == 2


@pytest.mark.parametrize("resolution", [32, 128])
def test_biases_are_resampled_to_the_maps_of_another_resolution(resolution):
    state, wanted = build(64).state_dict(), build(resolution).state_dict()
    sizes = SMALL.resolution, ImageSize.square(resolution)
    fitted = resample_biases(state, build(resolution), *sizes)
    assert {name: value.shape for name, value in fitted.items()} == {n: v.shape for n, v in wanted.items()}
    constant = {name: torch.ones_like(v) if name.endswith("attention_biases") else v for name, v in state.items()}
    biases = [
        v
        for name, v in resample_biases(constant, build(resolution), *sizes).items()
        if name.endswith("attention_biases")
    ]
    assert len(biases) == 5
    for values in biases:
        torch.testing.assert_close(values, torch.ones_like(values))
