"""The contract of families, for models of timm whose structure is found."""

import pytest

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.testing.families import BackboneTestCase, VariantTestCase

OF_A_FAMILY = (("window_size", 7), ("token_pruning_ratio", 0.5), ("embed_pruning_ratio", 0.25))


class TestMobileNetV4(BackboneTestCase):
    """Inverted bottlenecks of convolutions."""

    spec = ModelSpec("mobilenetv4_conv_small_035", "none", ImageSize.square(64), 10)
    other_resolution = ImageSize.square(96)
    cuts_heads = False
    unsupported = (*OF_A_FAMILY, ("head_pruning_ratio", 0.5), ("quantization", "int8_qat"))


class TestResNet(BackboneTestCase):
    """Consumers of kernel size 3, some too large to be fitted."""

    spec = ModelSpec("resnet10t", "none", ImageSize.square(64), 10)
    other_resolution = ImageSize.square(96)
    cuts_heads = False
    unsupported = (*OF_A_FAMILY, ("head_pruning_ratio", 0.5), ("quantization", "int8_mixed"))


class TestPiT(BackboneTestCase):
    """Heads beside widths, in blocks that are residual as a whole, and tables of positions."""

    spec = ModelSpec("pit_ti_224", "none", ImageSize.square(64), 10)
    arguments = {"depth": (1, 2, 1)}
    other_resolution = ImageSize.square(96)
    unsupported = OF_A_FAMILY


class TestRegNet(VariantTestCase):
    """Channels that grouped convolutions hold together, with squeeze and excitation between."""

    spec = ModelSpec("regnety_002", "none", ImageSize.square(64), 10)
    other_resolution = ImageSize.square(96)
    cuts_heads = False
    unsupported = OF_A_FAMILY


class TestConvNeXtV2(VariantTestCase):
    """A response norm over the hidden channels."""

    spec = ModelSpec("convnextv2_atto", "none", ImageSize.square(64), 10)
    arguments = {"depths": (1, 1, 2, 1)}
    other_resolution = ImageSize.square(96)
    cuts_heads = False
    unsupported = OF_A_FAMILY


class TestEdgeNeXt(VariantTestCase):
    """Attention across channels, with a temperature for each head."""

    spec = ModelSpec("edgenext_xx_small", "none", ImageSize.square(64), 10)
    arguments = {"depths": (2, 2, 2, 2)}
    other_resolution = ImageSize.square(96)
    unsupported = (*OF_A_FAMILY, ("distillation", "token"))


def test_slicing_to_no_head_is_refused():
    family, name = backbones.find("levit_128s"), "levit_128s"
    model = family.build(ModelSpec(name, "none", ImageSize.square(64), 10)).model
    with pytest.raises(PlanError, match=r"stages\.0\.blocks\.0: cannot keep heads \[\] of 4"):
        family.slice_heads(model, 0, ())


@pytest.mark.parametrize(
    ("name", "pixels"), [("levit_128s", 128), ("levit_384_s8", 64), ("swin_tiny_patch4_window7_224", 64)]
)
def test_a_structure_is_found_at_the_smallest_size_that_leaves_two_positions_a_side(name, pixels):
    assert backbones.find(name).traced_size(name) == ImageSize.square(pixels)


def test_a_reason_of_the_family_itself_is_the_whole_reason():
    reason = backbones.supports("repvit_m0_9", "head_pruning_ratio", 0.25)
    assert reason == "repvit_m0_9 is made of convolutions and has no heads"
    reason = backbones.supports("efficientformer_l1", "window_size", 7)
    assert reason == "efficientformer_l1 has no windows that vitsearch can choose"
