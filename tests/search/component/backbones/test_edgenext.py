import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.errors import PlanError
from vitsearch.testing.families import BackboneTestCase

SMALL = ModelSpec("edgenext_xx_small", "none", 64, 10)


class TestEdgeNeXt(BackboneTestCase):
    spec = SMALL
    arguments = {"depths": (2, 2, 2, 2)}
    other_resolution = 72
    unsupported = (("resolution", 24), ("window_size", 4), ("token_pruning_ratio", 0.5), ("distillation", "token"))


def test_slicing_heads_keeps_their_temperatures():
    family = backbones.find(SMALL.backbone)
    model = family.build(SMALL).model
    block = next(index for index, unit in enumerate(family.units(model)) if unit.heads)
    attention = model.get_submodule(family.units(model)[block].name).xca
    with torch.no_grad():
        attention.temperature.copy_(torch.arange(4.0)[:, None, None])
    family.slice_heads(model, block, (1, 3))
    assert attention.temperature.flatten().tolist() == [1.0, 3.0]


def test_slicing_to_no_head_is_refused():
    family = backbones.find(SMALL.backbone)
    with pytest.raises(PlanError, match=r"stages\.0\.blocks\.0: cannot keep heads \[0\] of a NoneType"):
        family.slice_heads(family.build(SMALL).model, 0, (0,))
