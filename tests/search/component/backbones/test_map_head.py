"""Models that give logits for each position of a map."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file

from support.marks import long
from vitsearch import backbones
from vitsearch.compress import prune
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.resolve import Scores, resolve
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.map_head import SKIPS, why_no_map

CLASSES = 3


def built(name, size, channels=3, gives_map=True, **more):
    spec = backbones.ModelSpec(name, more.pop("weights", "none"), size, CLASSES, channels, gives_map=gives_map, **more)
    return backbones.find(name).build(spec)


def model_of(name, side, channels=3, **more):
    return built(name, ImageSize.square(side), channels, **more).model.eval()


def trained(model):
    """A model whose convolutions for the finer stages are no longer silent."""
    with torch.no_grad():
        for skip in getattr(model, SKIPS).values():
            torch.nn.init.normal_(skip.weight, std=0.1)
    return model


@pytest.mark.parametrize(
    ("name", "side", "channels"),
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
def test_a_model_gives_a_map_a_quarter_as_high_and_wide_and_its_file_too(name, side, channels, tmp_path):
    model, images = trained(model_of(name, side, channels)), torch.randn(2, channels, side, side)
    assert model(images).shape == (2, CLASSES, side // 4, side // 4)
    assert write_onnx(model, images.shape, tmp_path / "m.onnx", batch=2).parity_rel < 1e-5


@torch.no_grad()
def test_a_rectangle_has_a_map_of_its_shape():
    model = built("mobilevit_fmnist", ImageSize(32, 64), 1).model
    assert model(torch.randn(1, 1, 32, 64)).shape == (1, CLASSES, 8, 16)


@torch.no_grad()
def test_each_position_has_the_logits_of_the_models_own_head():
    model, images = model_of("vit_fmnist_p4", 16, 1), torch.randn(1, 1, 16, 16)
    tokens = model.forward_features(images)[0, 1:]
    expected = torch.stack([model.head(model.fc_norm(token)) for token in tokens])
    assert torch.allclose(model(images)[0].flatten(1).T, expected, atol=1e-6)


@torch.no_grad()
def test_finer_stages_add_to_the_map_once_their_convolutions_are_trained():
    model, images = model_of("efficientvit_fmnist", 56, 1), torch.randn(1, 1, 56, 56)
    silent = model(images)
    assert list(getattr(model, SKIPS)) == ["0", "1"], "the stages of 14 and 7 pixels, not the last one of 4"
    stages = model.forward_intermediates(images)[1]
    trained(model)
    assert torch.allclose(model(images) - silent, sum_of_skips(model, stages), atol=1e-5)


def sum_of_skips(model, stages):
    grown = (
        torch.nn.functional.interpolate(skip(stages[int(index)]), size=(14, 14), mode="bilinear")
        for index, skip in getattr(model, SKIPS).items()
    )
    return sum(grown)


@torch.no_grad()
def test_a_copy_gives_the_same_maps():
    model, images = trained(model_of("mobilevit_fmnist", 32, 1)), torch.randn(1, 1, 32, 32)
    assert torch.equal(copy.deepcopy(model)(images), model(images))


@torch.no_grad()
def test_the_weights_of_a_study_are_loaded_with_their_convolutions(tmp_path):
    model, images = trained(model_of("efficientvit_fmnist", 56, 1)), torch.randn(1, 1, 56, 56)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    size, weights = ImageSize.square(56), f"file:{tmp_path / 'weights.safetensors'}"
    again = built("efficientvit_fmnist", size, 1, weights=weights, trained_at=size)
    assert torch.equal(again.model(images), model(images))
    assert not again.head_is_new
    from_file = built("efficientvit_fmnist", size, 1, weights=weights)
    assert torch.equal(from_file.model(images), model(images))


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [
        ("efficientvit_fmnist", 56, 1),
        *long(("convnext_atto", 64, 3), ("resnet18", 64, 3), ("edgenext_xx_small", 64, 3)),
    ],
)
def test_a_model_that_gives_maps_is_cut_as_a_classifier_is(name, side, channels):
    family, size, images = backbones.find(name), ImageSize.square(side), torch.randn(1, channels, side, side)
    spec = backbones.ModelSpec(name, "none", size, CLASSES, channels, gives_map=True)
    model = trained(family.build(spec).model.eval())
    structure = family.block_structure(model, spec)
    half = Compression(ffn_pruning_ratio=0.5)
    deployment = Deployment("local", "onnxruntime", "cpu", "fp32")
    recipe = Recipe((0, 1), 0, 16, 0.0, 0.0, 0, 0.0, 1.0, 0)
    resolved = resolve(
        Plan(name, "none", size, None, half, "logits", recipe, (deployment,)), structure, Scores.equal(structure)
    )
    before = sum(parameter.numel() for parameter in model.parameters())
    prune.apply(model, family, resolved, images)
    with torch.no_grad():
        maps, deployed = model(images), family.deployable(model)(images)
    assert maps.shape == (1, CLASSES, side // 4, side // 4)
    assert sum(parameter.numel() for parameter in model.parameters()) < 0.9 * before
    assert torch.allclose(deployed, maps, atol=1e-5)


def test_the_head_of_a_classifier_is_new():
    assert built("vit_fmnist_p4", ImageSize.square(28), 1, weights="builtin").head_is_new


@torch.no_grad()
def test_features_that_are_no_map_are_refused_with_their_number():
    model = model_of("levit_128s", 224, gives_map=False)
    reason = why_no_map(model, torch.zeros(1, 3, 224, 224))
    assert reason == "gives 16 features of an image, which are no map"


@pytest.mark.parametrize("name", ["vit_fmnist_p4", "efficientvit_fmnist", *long("swin_tiny_patch4_window7_224")])
def test_a_family_says_without_building_that_its_models_give_maps(name):
    assert backbones.find(name).why_no_map(name) is None


def test_a_family_says_without_building_why_its_models_give_none():
    assert backbones.find("levit_128s").why_no_map("levit_128s") == "gives 16 features of an image, which are no map"
