from vitsearch.backbones import ModelSpec
from vitsearch.backbones.testing import BackboneTestCase


class TestEfficientViTMSRA(BackboneTestCase):
    spec = ModelSpec("efficientvit_m0", "none", 128, 10)
    other_resolution = 64
    cuts_heads = False
    unsupported = (("head_pruning_ratio", 0.5), ("window_size", 4), ("resolution", 100))
