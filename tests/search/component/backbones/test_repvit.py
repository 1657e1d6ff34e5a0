import pytest
from safetensors.torch import save_file
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase

SMALL = ModelSpec("repvit_m0_9", "none", ImageSize.square(32), 10)


class TestRepViT(BackboneTestCase):
    spec = SMALL
    arguments = {"depth": (1, 1, 2, 1), "embed_dim": (24, 48, 96, 192)}
    other_resolution = ImageSize.square(48)
    cuts_heads = False
    unsupported = (
        ("head_pruning_ratio", 0.5),
        ("window_size", 4),
        ("token_pruning_ratio", 0.5),
        ("quantization", "int8_qat"),
        ("quantization", "int8_mixed"),
    )


def test_the_deployed_model_has_no_batch_norm_and_one_classifier():
    family = backbones.find(SMALL.backbone)
    ships = family.deployable(family.build(SMALL).model)
    assert not any(isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d) for layer in ships.modules())
    assert isinstance(ships.head, nn.Linear)


@pytest.mark.long
def test_weights_with_new_classes_can_be_saved_and_loaded(tmp_path):
    family = backbones.find(SMALL.backbone)
    for step, classes in enumerate((10, 4)):
        path = tmp_path / f"{step}.safetensors"
        save_file(
            family.build(ModelSpec(SMALL.backbone, "none", ImageSize.square(32), classes)).model.state_dict(), path
        )
        built = family.build(ModelSpec(SMALL.backbone, f"file:{path}", ImageSize.square(32), 4))
        assert built.head_is_new == (classes != 4)
        save_file(built.model.state_dict(), tmp_path / "again.safetensors")
        again = family.build(
            ModelSpec(SMALL.backbone, f"file:{tmp_path / 'again.safetensors'}", ImageSize.square(32), 4)
        )
        assert not again.head_is_new


def test_removing_heads_is_refused_with_a_reason():
    reason = backbones.supports(SMALL.backbone, "head_pruning_ratio", 0.25)
    assert reason == "repvit_m0_9 is made of convolutions and has no heads"
