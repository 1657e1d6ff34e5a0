"""The contract that every family keeps, on the smallest of its models."""

from vitsearch.backbones import ModelSpec
from vitsearch.testing.families import BackboneTestCase


class TestRelPos(BackboneTestCase):
    spec = ModelSpec("test_vit_relpos", "none", 64, 10)
    other_resolution = 96
    unsupported = (("resolution", 70), ("window_size", 7), ("token_pruning_ratio", 0.5))
