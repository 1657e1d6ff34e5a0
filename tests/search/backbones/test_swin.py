from vitsearch.backbones import ModelSpec
from vitsearch.backbones.testing import BackboneTestCase


class TestSwin(BackboneTestCase):
    spec = ModelSpec("swin_tiny_patch4_window7_224", "none", 64, 10)
    other_resolution = 96
    unsupported = (
        ("resolution", 100),
        ("resolution", 32),
        ("window_size", 7),
        ("token_pruning_ratio", 0.5),
        ("distillation", "token"),
        ("weights", "builtin"),
    )


class TestSwinS3(BackboneTestCase):
    """Windows that differ between the stages."""

    spec = ModelSpec("swin_s3_tiny_224.ms_in1k", "none", 64, 7)
    other_resolution = 96
    unsupported = (("resolution", 80), ("window_size", 14))
