from vitsearch.backbones import ModelSpec
from vitsearch.backbones.testing import BackboneTestCase


class TestMobileViT(BackboneTestCase):
    spec = ModelSpec("mobilevit_xxs", "none", 64, 10)
    other_resolution = 56
    unsupported = (("window_size", 7), ("token_pruning_ratio", 0.5), ("distillation", "token"))


class TestMobileViTv2(BackboneTestCase):
    spec = ModelSpec("mobilevitv2_050", "none", 64, 10)
    other_resolution = 48
    cuts_heads = False
    unsupported = (("head_pruning_ratio", 0.5), ("window_size", 7))
