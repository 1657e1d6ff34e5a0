"""Every space file that ships: it loads, its backbones support what it asks for, and its plans can be drawn."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support import REPOSITORY
from vitsearch import backbones
from vitsearch.core import precisions
from vitsearch.space import check, load
from vitsearch.study.sampling import PlanSpace

SPACES = sorted(Path(REPOSITORY, "spaces").glob("*.yaml"))


@pytest.fixture(params=SPACES, ids=lambda path: path.stem)
def loaded(request):
    return load(request.param, [])


def test_nothing_is_wrong_with_it(loaded):
    assert check(loaded, backbones.supports) == []
    assert loaded.space.study == Path(loaded.source.path).stem
    assert Path(loaded.source.path).read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_every_backbone_is_on_the_leaderboard_at_every_precision_that_it_takes(loaded):
    plans = PlanSpace(loaded.space, loaded.space.device_names[0], backbones.supports, backbones.native_resolution)
    leaders = {(plan.backbone, plan.deployment.precision) for plan in plans.leaderboard()}
    assert leaders == {
        (choice.name, precision)
        for choice in loaded.space.space.backbone
        for precision in loaded.space.space.quantization
        if backbones.supports(choice.name, "quantization", precision) is None
    }
    assert plans.baseline().deployment.precision == "fp32"


def test_what_is_drawn_is_supported(loaded):
    plans = PlanSpace(loaded.space, loaded.space.device_names[0], backbones.supports, backbones.native_resolution)
    chance = random.Random(0)
    for plan in (plans.random(chance) for _ in range(50)):
        assert backbones.supports(plan.backbone, "resolution", plan.resolution) is None
        assert backbones.supports(plan.backbone, "head_pruning_ratio", plan.compression.head_pruning_ratio) is None
        assert precisions.supports(plan.deployment.runtime, plan.deployment.precision) is None
        assert plans.contains(plan)
