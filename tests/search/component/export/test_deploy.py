import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import StageError
from vitsearch.export.deploy import deployed

REPVIT = ModelSpec("repvit_m0_9", "none", ImageSize.square(32), 10)


def test_a_model_without_branches_ships_unchanged():
    family = backbones.find("deit_tiny_patch16_224")
    model = family.build(ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(32), 10)).model
    assert deployed(model, family, (1, 3, 32, 32)) is model


def test_branches_are_merged_in_a_copy():
    family = backbones.find(REPVIT.backbone)
    model = family.build(REPVIT).model
    ships = deployed(model, family, (1, 3, 32, 32))
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert sum(p.numel() for p in ships.parameters()) < sum(p.numel() for p in model.parameters())


def test_a_merged_model_that_disagrees_does_not_ship(monkeypatch):
    family = backbones.find(REPVIT.backbone)
    model = family.build(REPVIT).model
    merge = family.deployable

    def badly(original):
        ships = merge(original)
        with torch.no_grad():
            ships.head.weight *= 1.01
        return ships

    monkeypatch.setattr(family, "deployable", badly)
    with pytest.raises(StageError, match=r"the merged model and the trained one differ by \d\.\de-0[12]"):
        deployed(model, family, (1, 3, 32, 32))
