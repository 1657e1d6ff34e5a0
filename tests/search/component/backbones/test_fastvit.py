from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase

SMALL = ModelSpec("fastvit_t8", "none", ImageSize.square(32), 10)


class TestFastViT(BackboneTestCase):
    spec = SMALL
    arguments = {"layers": (1, 1, 2, 1), "embed_dims": (24, 48, 96, 192)}
    other_resolution = ImageSize.square(48)
    cuts_heads = False
    unsupported = (("head_pruning_ratio", 0.5), ("window_size", 4), ("token_pruning_ratio", 0.5))


class TestFastViTWithAttention(BackboneTestCase):
    spec = ModelSpec("fastvit_sa12", "none", ImageSize.square(64), 10)
    arguments = {"layers": (1, 1, 1, 2), "embed_dims": (32, 64, 128, 256)}
    other_resolution = ImageSize.square(32)
    unsupported = (("window_size", 4), ("token_pruning_ratio", 0.5), ("distillation", "token"))


def test_branches_ship_as_one_convolution_without_norm():
    family = backbones.find(SMALL.backbone)
    model = family.build(SMALL).model
    ships = family.deployable(model)
    mixer = ships.stages[0].blocks[0].token_mixer
    assert [name for name, _ in mixer.named_parameters()] == ["reparam_conv.weight", "reparam_conv.bias"]
    norms = [name for name, layer in ships.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert all(name.endswith("mlp.conv.bn") for name in norms)
