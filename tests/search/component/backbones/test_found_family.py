"""The contract of families, for models of timm whose structure is found."""

from vitsearch.backbones import ModelSpec
from vitsearch.testing.families import BackboneTestCase, VariantTestCase

OF_A_FAMILY = (("window_size", 7), ("token_pruning_ratio", 0.5), ("embed_pruning_ratio", 0.25))


class TestMobileNetV4(BackboneTestCase):
    """Inverted bottlenecks of convolutions."""

    spec = ModelSpec("mobilenetv4_conv_small_035", "none", 64, 10)
    other_resolution = 96
    cuts_heads = False
    unsupported = (*OF_A_FAMILY, ("head_pruning_ratio", 0.5), ("quantization", "int8_qat"))


class TestResNet(BackboneTestCase):
    """Consumers of kernel size 3, some too large to be fitted."""

    spec = ModelSpec("resnet10t", "none", 64, 10)
    other_resolution = 96
    cuts_heads = False
    unsupported = (*OF_A_FAMILY, ("head_pruning_ratio", 0.5), ("quantization", "int8_mixed"))


class TestPiT(BackboneTestCase):
    """Heads beside widths, in blocks that are residual as a whole, and tables of positions."""

    spec = ModelSpec("pit_ti_224", "none", 64, 10)
    arguments = {"depth": (1, 2, 1)}
    other_resolution = 96
    unsupported = OF_A_FAMILY


class TestRegNet(VariantTestCase):
    """Channels that grouped convolutions hold together, with squeeze and excitation between."""

    spec = ModelSpec("regnety_002", "none", 64, 10)
    other_resolution = 96
    cuts_heads = False
    unsupported = OF_A_FAMILY


class TestConvNeXtV2(VariantTestCase):
    """A response norm over the hidden channels."""

    spec = ModelSpec("convnextv2_atto", "none", 64, 10)
    arguments = {"depths": (1, 1, 2, 1)}
    other_resolution = 96
    cuts_heads = False
    unsupported = OF_A_FAMILY
