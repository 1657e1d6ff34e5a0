from vitsearch.backbones import ModelSpec
from vitsearch.backbones.testing import BackboneTestCase


class TestSmall(BackboneTestCase):
    spec = ModelSpec("efficientvit_b0", "none", 64, 10)
    other_resolution = 56
    unsupported = (("window_size", 7), ("token_pruning_ratio", 0.5), ("distillation", "token"))


class TestLarge(BackboneTestCase):
    spec = ModelSpec("efficientvit_l1", "none", 32, 10)
    other_resolution = 48
    unsupported = (("window_size", 7),)
