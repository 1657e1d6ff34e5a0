"""Models counted and timed with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support import REPOSITORY
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork
from vitsearch.core.plan import Compression
from vitsearch.workers.space_costs import SpaceModels, count, training_seconds_per_image

GREY = SpaceModels(classes=10, channels=1)


def test_what_is_removed_is_not_counted(plan):
    whole = replace(plan, backbone="vit_fmnist_p4", weights="builtin")
    cut = replace(whole, compression=Compression(head_pruning_ratio=0.5, ffn_pruning_ratio=0.5))
    counts = count(whole, GREY)
    assert (counts.params_m, counts.macs_m) == pytest.approx((2.684554, 138.622848))
    params, macs = count(cut, GREY).params_m, count(cut, GREY).macs_m
    assert 0.4 * 2.684554 < params < 0.6 * 2.684554
    assert macs < 0.6 * 138.622848


def test_fewer_tokens_cost_less_and_weigh_the_same(plan):
    whole = replace(plan, backbone="vit_fmnist_p4", weights="builtin")
    fewer = replace(whole, compression=Compression(token_pruning_ratio=0.3, token_pruning_method="topk"))
    assert count(fewer, GREY).params_m == pytest.approx(count(whole, GREY).params_m)
    assert count(fewer, GREY).macs_m < count(whole, GREY).macs_m


def test_a_training_step_takes_time_and_leaves_the_threads_as_they_were(plan):
    before = torch.get_num_threads()
    seconds = training_seconds_per_image(replace(plan, backbone="vit_fmnist_p4", weights="builtin"), GREY, threads=1)
    assert 0.0 < seconds < 10.0
    assert torch.get_num_threads() == before


def test_a_map_has_its_head_counted_and_is_trained_too(plan):
    maps = replace(GREY, gives_map=True)
    unpruned = replace(plan, backbone="efficientvit_fmnist", weights="builtin")
    added = count(unpruned, maps).params_m - count(unpruned, GREY).params_m
    assert added == pytest.approx(10 * (32 + 64) / 1e6), "a 1x1 convolution for each of two finer stages"
    assert training_seconds_per_image(unpruned, maps, threads=1) > 0


def test_a_training_step_of_a_network_that_gives_maps_is_timed(plan):
    folder, size = str(Path(REPOSITORY, "examples", "detection")), ImageSize.square(64)
    network = PythonNetwork("detector", "detector:make", folder, size)
    whole = replace(plan, backbone="detector", weights="none", resolution=size)
    assert 0.0 < training_seconds_per_image(whole, replace(GREY, networks=(network,)), threads=1) < 10.0
