"""What is found in small networks is cut exactly; what only looks like it is refused with a reason."""

import copy
import json
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from support import small_networks
from vitsearch.structure import heads, widths
from vitsearch.structure.find import DECLARED, find_structure, half
from vitsearch.structure.values import Structure

IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NETWORKS = {
    "depthwise convolution between": small_networks.on_maps(small_networks.convolutions()),
    "consumer of kernel size 3": small_networks.on_maps(small_networks.convolutions(kernel=3)),
    "squeeze and excitation": small_networks.on_maps(small_networks.convolutions(small_networks.squeeze())),
    "response norm": small_networks.on_maps(small_networks.convolutions(small_networks.response_norm())),
    "grouped convolution": small_networks.on_maps(
        small_networks.convolutions(nn.Conv2d(32, 32, 3, padding=1, groups=8))
    ),
    "norm of groups": small_networks.on_maps(small_networks.convolutions(nn.GroupNorm(8, 32))),
    "frozen batch norm": small_networks.on_maps(small_networks.convolutions(FrozenBatchNorm2d(32))),
    "layer norm": small_networks.OnTokens(small_networks.perceptron(nn.LayerNorm(small_networks.HIDDEN))),
    "gate of two layers": small_networks.OnTokens(small_networks.Gated()),
    "gate in one layer": small_networks.OnTokens(small_networks.Halves()),
    "heads by part": small_networks.OnTokens(small_networks.Attention()),
    "heads next to each other": small_networks.OnTokens(small_networks.Attention(by_head=True)),
}


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def found(network: nn.Module) -> tuple[nn.Module, Structure]:
    network = copy.deepcopy(network)
    return network, find_structure(network, IMAGES)


@pytest.mark.parametrize("kind", NETWORKS)
def test_half_of_all_that_was_found_equals_the_mask(kind):
    network, structure = found(NETWORKS[kind])
    cut = copy.deepcopy(network)
    with torch.no_grad(), ExitStack() as masks:
        whole = network(IMAGES)
        for part in structure.parts:
            if part.heads is not None:
                kept = half(part.heads.count)
                masks.enter_context(heads.masked(network, part.heads, kept))
                heads.keep_heads(cut, part.heads, kept)
            if part.width is not None:
                kept = half(part.width.units)
                masks.enter_context(widths.masked(network, part.width, kept))
                widths.keep_channels(cut, part.width, kept)
        expected = network(IMAGES)
        assert structure.parts
        assert float((cut(IMAGES) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
        assert not torch.allclose(whole, expected, rtol=1e-3)


class Amplified(nn.Module):
    """Rounding of the logits of a network comes out as large as they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.sin(1e6 * self.network(images))


def test_rounding_that_a_model_amplifies_is_no_wrong_cut():
    _, structure = found(Amplified(NETWORKS["consumer of kernel size 3"]))
    assert len(structure.parts) == 2
    assert not structure.refusals


def test_channels_are_cut_through_a_batch_norm_that_has_statistics_alone():
    network = small_networks.on_maps(small_networks.convolutions(nn.BatchNorm2d(32, affine=False)))
    network, structure = found(network)
    assert [part.width.between for part in structure.parts][0] == ("1.branch.1", "1.branch.3")
    for part in structure.parts:
        widths.keep_channels(network, part.width, half(part.width.units))
    assert network.get_submodule("1.branch.3").running_var.shape == (16,)


def test_a_model_that_was_cut_is_cut_again():
    network, structure = found(NETWORKS["grouped convolution"])
    (part,) = [part for part in structure.parts if part.width.grain > 1]
    once, twice = copy.deepcopy(network), copy.deepcopy(network)
    widths.keep_channels(once, part.width, [1, 5])
    widths.keep_channels(twice, part.width, [1, 3, 5])
    widths.keep_channels(twice, part.width, [0, 2])
    assert widths.current_units(twice, part.width) == 2
    with torch.no_grad():
        assert torch.equal(once(IMAGES), twice(IMAGES))


def test_the_unit_of_a_grouped_convolution_is_a_group():
    _, structure = found(NETWORKS["grouped convolution"])
    assert [part.width.grain for part in structure.parts] == [4, 1]
    assert [part.width.units for part in structure.parts] == [8, 32]


@pytest.mark.parametrize("count", range(1, 8))
def test_the_unit_of_a_norm_of_groups_is_a_group_at_every_count(count):
    network, structure = found(NETWORKS["norm of groups"])
    part = structure.parts[0]
    assert (part.width.grain, part.width.units) == (4, 8)
    cut = copy.deepcopy(network)
    widths.keep_channels(cut, part.width, range(count))
    (norm,) = [module for module in cut.modules() if isinstance(module, nn.GroupNorm)]
    assert (norm.num_groups, norm.num_channels) == (count, 4 * count)
    with torch.no_grad(), widths.masked(network, part.width, range(count)):
        torch.testing.assert_close(cut(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-5)


def test_what_several_places_of_a_model_use_is_refused():
    shared = nn.LayerNorm(small_networks.HIDDEN)
    attention, other = small_networks.Attention(), small_networks.Attention()
    other.qkv = attention.qkv
    twice = {
        "width": (small_networks.perceptron(shared), small_networks.perceptron(shared)),
        "heads": (attention, attention),
        "heads of one projection": (attention, other),
    }
    for kind, branches in twice.items():
        _, structure = found(small_networks.OnTokens(nn.Sequential(*map(small_networks.Residual, branches))))
        kind = kind.split()[0]
        assert not [part for part in structure.parts if part.heads or part.width]
        reasons = [refusal.reason for refusal in structure.refusals if refusal.kind == kind]
        assert any(reason.endswith("runs 2 times in one forward") for reason in reasons)


def test_an_activation_that_several_places_share_is_cut_nowhere():
    shared = nn.PReLU()
    branches = [small_networks.Residual(small_networks.perceptron(shared)) for _ in range(2)]
    _, structure = found(small_networks.OnTokens(nn.Sequential(*branches)))
    assert len([part for part in structure.parts if part.width]) == 2


def test_units_that_are_declared_do_not_split_a_group():
    network = copy.deepcopy(NETWORKS["norm of groups"])
    width = found(NETWORKS["norm of groups"])[1].parts[0].width
    structure = find_structure(network, IMAGES, [replace(width, grain=2)])
    (refusal,) = [refusal for refusal in structure.refusals if refusal.kind == DECLARED]
    assert "norms groups of 4 channels, so grain must be a multiple of 4, not 2" in refusal.reason


def test_channels_that_are_mixed_between_the_layers_are_refused_with_the_measured_reason():
    _, structure = found(small_networks.OnTokens(small_networks.Mixed()))
    assert structure.parts == ()
    (refusal,) = structure.refusals
    assert (refusal.kind, refusal.type) == ("width", "Mixed")
    assert "of the largest value" in refusal.reason or "size" in refusal.reason


def test_stems_classifiers_and_narrow_widths_are_left_alone():
    narrow = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
    _, structure = found(small_networks.OnTokens(narrow))
    assert structure == Structure()


def test_a_layer_is_cut_for_one_width_alone_and_the_one_that_can_be_fitted_is_preferred():
    bottleneck = nn.Sequential(
        nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1)
    )
    _, structure = found(small_networks.on_maps(bottleneck))
    assert [part.width.consumer for part in structure.parts] == ["1.branch.4", "2.branch.4"]


def test_residual_blocks_have_the_place_where_their_branch_is_added():
    _, structure = found(NETWORKS["depthwise convolution between"])
    assert [part.name for part in structure.parts] == ["1", "2"]
    assert all(part.removable for part in structure.parts)
    (leaves, joins) = {(part.width_addition.leaves, part.width_addition.joins) for part in structure.parts[:1]}.pop()
    assert (leaves, joins) == ("1", "1")


@pytest.mark.parametrize("reads", ["an attribute", "a number"])
def test_a_block_is_not_dropped_whose_parent_reads_it(reads):
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            branches = [small_networks.perceptron(nn.GELU()) for _ in range(3)]
            self.blocks = nn.ModuleList(map(small_networks.Residual, branches))
            self.blocks[0].scale = 1.0 if reads == "a number" else "one"

        def forward(self, x):
            scale = self.blocks[0].scale
            for block in self.blocks:
                x = block(x)
            return x if scale == "one" else x * scale

    _, structure = found(small_networks.OnTokens(Stack()))
    assert [part.removable for part in structure.parts] == [False, True, True]


def test_a_structure_is_the_same_after_json():
    for network in NETWORKS.values():
        _, structure = found(network)
        again = Structure.from_json(json.loads(json.dumps(structure.to_json())))
        assert again == structure
        assert again.digest == structure.digest


def test_what_is_found_does_not_depend_on_the_weights():
    first, second = copy.deepcopy(NETWORKS["gate of two layers"]), small_networks.OnTokens(small_networks.Gated())
    assert find_structure(first, IMAGES).digest == find_structure(second, IMAGES).digest
