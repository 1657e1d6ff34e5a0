"""`tools/train_base.py`: recipes, batches, and some seconds of real training."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from support import REPOSITORY
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.data.fashion_mnist import subset_split

TOOL = Path(REPOSITORY, "tools", "train_base.py")
EFFICIENTVIT = BUILTIN["efficientvit_fmnist"]
STEPS = 16


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_base", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their own module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def data():
    return subset_split("train")


def test_every_base_has_a_recipe_that_ends_at_its_resolution(tool):
    assert set(tool.RECIPES) == set(BUILTIN)
    for name, recipe in tool.RECIPES.items():
        last = recipe.phases[-1]
        assert last.decays
        assert BUILTIN[name].resolution.height in last.resolutions


@pytest.mark.long
def test_a_base_is_trained_and_rounded_to_fp16(tool, data, monkeypatch):
    monkeypatch.setattr(tool, "BATCH_NORM_BATCHES", 4)
    # A second of CPU time passes with each step, so that a slow machine takes as many of them as a fast one.
    monkeypatch.setattr(tool, "time", SimpleNamespace(process_time=map(float, itertools.count()).__next__))
    recipe = tool.RECIPES["efficientvit_fmnist"]
    short = dataclasses.replace(recipe, phases=tuple(dataclasses.replace(p, cpu_seconds=STEPS) for p in recipe.phases))
    model, ran = tool.train_base(EFFICIENTVIT, short, data, seed=0)
    assert [phase["name"] for phase in ran] == [phase.name for phase in recipe.phases]
    assert all(phase["steps"] == STEPS - 1 and phase["cpu_seconds_used"] >= STEPS for phase in ran)
    assert ran[-1]["validation"] > 0.2  # chance is 0.1
    assert all(p.equal(p.half().float()) for p in model.parameters())


def test_positions_and_patches_are_resampled_to_another_patch_size(tool):
    base, recipe = BUILTIN["vit_fmnist_p4"], tool.RECIPES["vit_fmnist_p4"]
    coarse = tool.make_model(base, recipe, recipe.phases[0], None)
    fine = tool.make_model(base, recipe, recipe.phases[1], coarse)
    assert coarse.patch_embed.proj.weight.shape[2:] == (7, 7)
    assert fine.patch_embed.proj.weight.shape[2:] == (4, 4)
    assert torch.equal(coarse.pos_embed[:, 0], fine.pos_embed[:, 0])
    assert torch.equal(coarse.blocks[5].mlp.fc1.weight, fine.blocks[5].mlp.fc1.weight)


def test_every_image_comes_once_before_any_comes_again(tool, data):
    few = dataclasses.replace(data, images=data.images[:384], labels=np.arange(384))
    batches = tool.Batches(EFFICIENTVIT, few, np.random.default_rng(0))
    drawn = [batches.next(tool.Phase("any", 1, 1e-3, (20, 28))) for _ in range(24)]
    for at in range(0, 24, 3):
        assert sorted(torch.cat([labels for _, labels in drawn[at : at + 3]]).tolist()) == list(range(384))
    assert {images.shape for images, _ in drawn} == {(128, 1, 20, 20), (128, 1, 28, 28)}


def test_flips_mirror_half_of_the_images_and_do_not_change_the_data(tool, data):
    same = dataclasses.replace(data, images=np.repeat(data.images[:1], 128, axis=0), labels=data.labels[:128])
    before = same.images.copy()
    batches = tool.Batches(EFFICIENTVIT, same, np.random.default_rng(0))
    image = batches.next(tool.Phase("any", 1, 1e-3, (28,)))[0][0]
    flipped = batches.next(tool.Phase("any", 1, 1e-3, (28,), flips=True))[0]
    mirrored = sum(torch.equal(found, image.flip(2)) for found in flipped)
    assert 40 < mirrored < 90
    assert sum(torch.equal(found, image) for found in flipped) == 128 - mirrored
    assert np.array_equal(before, same.images)
