import pytest
from timm.models.efficientvit_msra import PatchMerging

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase

SMALL = ModelSpec("efficientvit_m0", "none", ImageSize.square(64), 10)


class TestEfficientViTMSRA(BackboneTestCase):
    """At 128 pixels the first map (8) is padded to two windows of 7; at 64 the windows shrink to the maps."""

    spec = ModelSpec("efficientvit_m0", "none", ImageSize.square(128), 10)
    other_resolution = ImageSize.square(64)
    arguments = {"depth": (1, 1, 1)}
    cuts_heads = False
    unsupported = (
        ("head_pruning_ratio", 0.5),
        ("window_size@224", 4),
        ("token_pruning_ratio", 0.5),
        ("resolution", ImageSize.square(100)),
    )


@pytest.mark.parametrize(("pixels", "near"), [(100, "(nearest: 96 and 112)"), (8, "(nearest: 16)")])
def test_the_reason_names_the_nearest_valid_sizes(pixels, near):
    reason = backbones.supports("efficientvit_m3", "resolution", ImageSize.square(pixels))
    assert reason.startswith(f"{pixels} pixels are not a multiple of 16, the stride of the stem of efficientvit_m3")
    assert reason.endswith(near)


def test_removing_heads_is_refused_with_a_reason():
    reason = backbones.supports("efficientvit_m5", "head_pruning_ratio", 0.25)
    assert reason.startswith("efficientvit_m5 has cascaded heads")


def test_every_mlp_is_cut_and_each_layer_inside_a_downsampling_with_its_squeeze_and_excitation():
    family = backbones.find(SMALL.backbone)
    model = family.build(SMALL).model
    mergings = [name for name, block in model.named_modules() if isinstance(block, PatchMerging)]
    units = family.units(model)
    inside = [unit for unit in units if unit.name.startswith(tuple(mergings))]
    assert [unit.ffn_width for unit in inside] == [256, 512]
    assert len(units) == 2 * 6 + 2 * 3  # two MLPs in each of six blocks, two around each downsampling
    assert sum(unit.removable for unit in units) == 2 * 6 + 2 * 2
