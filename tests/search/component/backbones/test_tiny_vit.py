import pytest
import torch
from timm.models.tiny_vit import TinyVitBlock

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase

SMALL = ModelSpec("tiny_vit_5m_224", "none", ImageSize.square(64), 10)


class TestTinyViT(BackboneTestCase):
    spec = SMALL
    arguments = {"depths": (1, 1, 2, 1), "embed_dims": (32, 64, 96, 160), "num_heads": (2, 2, 3, 5)}
    other_resolution = ImageSize.square(96)
    unsupported = (
        ("resolution", ImageSize.square(100)),
        ("resolution", ImageSize.square(32)),
        ("token_pruning_ratio", 0.5),
        ("window_size@96", 4),
        ("distillation", "token"),
    )


def windows(name, resolution):
    with torch.device("meta"):
        model = backbones.find(name).recipe(name, ImageSize.of(resolution)).create()
    return [module.window_size for module in model.modules() if isinstance(module, TinyVitBlock)]


@pytest.mark.parametrize(("name", "pixels"), [("tiny_vit_5m_224", 160), ("tiny_vit_21m_384", 160)])
def test_windows_keep_their_share_of_every_map(name, pixels):
    assert set(windows(name, pixels)) == {pixels // 32, pixels // 16}


def test_the_reason_names_the_nearest_valid_sizes():
    reason = backbones.supports(SMALL.backbone, "resolution", ImageSize.square(50))
    assert reason.endswith("multiples of 32 from 64 on (the nearest: 64)")
