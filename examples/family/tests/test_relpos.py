"""The contract that every family keeps, on the smallest of its models."""

from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase


class TestRelPos(BackboneTestCase):
    spec = ModelSpec("test_vit_relpos", "none", ImageSize.square(64), 10)
    other_resolution = ImageSize.square(96)
    unsupported = (("resolution", ImageSize.square(70)), ("window_size", 7), ("token_pruning_ratio", 0.5))
