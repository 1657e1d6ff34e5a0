from vitsearch.backbones import ModelSpec
from vitsearch.backbones.testing import BackboneTestCase


class TestLevit(BackboneTestCase):
    spec = ModelSpec("levit_128s.fb_dist_in1k", "none", 64, 10)
    other_resolution = 96
    unsupported = (
        ("resolution", 100),
        ("resolution", 8),
        ("window_size", 7),
        ("token_pruning_ratio", 0.5),
        ("distillation", "token"),
        ("weights", "builtin"),
    )


class TestLevitOfConvolutions(BackboneTestCase):
    spec = ModelSpec("levit_conv_128s", "none", 64, 7)
    other_resolution = 96
    unsupported = (("resolution", 72), ("window_size", 4))
