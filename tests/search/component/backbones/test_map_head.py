"""Models that give logits for each position of a map."""

from __future__ import annotations

import copy

import pytest
import torch

from support.marks import long
from vitsearch import backbones
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.map_head import give_maps, why_no_map

CLASSES = 3


def model_of(name, pixels, channels=3):
    spec = backbones.ModelSpec(name, "none", pixels, CLASSES, channels)
    return backbones.find(name).build(spec).model.eval()


@pytest.mark.parametrize(
    ("name", "pixels", "channels"),
    [
        ("vit_fmnist_p4", 28, 1),
        ("mobilevit_fmnist", 56, 1),
        *long(
            ("efficientvit_fmnist", 56, 1),
            ("deit_tiny_distilled_patch16_224", 64, 3),
            ("swin_tiny_patch4_window7_224", 224, 3),
            ("convnext_atto", 64, 3),
            ("mobilenetv4_conv_small", 64, 3),
            ("repvit_m0_9", 64, 3),
        ),
    ],
)
@torch.no_grad()
def test_a_model_gives_a_map_a_quarter_as_high_and_wide_and_its_file_too(name, pixels, channels, tmp_path):
    model, images = model_of(name, pixels, channels), torch.randn(2, channels, pixels, pixels)
    assert why_no_map(model, images) is None
    give_maps(model)
    assert model(images).shape == (2, CLASSES, pixels // 4, pixels // 4)
    assert write_onnx(model, images.shape, tmp_path / "m.onnx", batch=2).parity_rel < 1e-5


@torch.no_grad()
def test_each_position_has_the_logits_of_the_models_own_head():
    model, images = model_of("vit_fmnist_p4", 16, 1), torch.randn(1, 1, 16, 16)
    tokens = model.forward_features(images)[0, 1:]
    expected = torch.stack([model.head(model.fc_norm(token)) for token in tokens])
    give_maps(model)
    assert torch.allclose(model(images)[0].flatten(1).T, expected, atol=1e-6)


@torch.no_grad()
def test_a_copy_and_its_weights_are_those_of_the_model():
    model, images = model_of("mobilevit_fmnist", 32, 1), torch.randn(1, 1, 32, 32)
    names = list(model.state_dict())
    give_maps(model)
    assert list(model.state_dict()) == names
    assert torch.equal(copy.deepcopy(model)(images), model(images))


@torch.no_grad()
def test_features_that_are_no_map_are_refused_with_their_number():
    reason = why_no_map(model_of("levit_128s", 224), torch.zeros(1, 3, 224, 224))
    assert reason == "gives 16 features of an image, which are no map"
