"""Where branches join the stream, and which modules are dropped as one."""

import pytest
import torch
from torch import nn

from support import small_networks
from vitsearch.structure.find import find_structure
from vitsearch.structure.proof import draw_vectors, settle_batch_norms
from vitsearch.structure.values import Addition

IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
HIDDEN = 32


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


class FlattensForItsNorm(nn.Module):
    """A batch norm over all tokens behind its layer, as in LeViT."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.norm = nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, 8, bias=False), nn.BatchNorm1d(8)

    def forward(self, x):
        x = self.fc2(self.fc1(x).relu())
        return self.norm(x.flatten(0, 1)).reshape_as(x)


class Rolled(nn.Module):
    """Moves positions behind the branch, as shifted windows do; then a norm reads the stream."""

    def __init__(self):
        super().__init__()
        self.mlp, self.norm = small_networks.perceptron(), nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x + self.mlp(x.roll(3, 1)).roll(-3, 1))


class TwoBranches(nn.Module):
    """Two residual MLPs with a depthwise convolution between, all of which add to their input."""

    def __init__(self):
        super().__init__()
        self.first = small_networks.Residual(small_networks.convolutions())
        self.mixer = small_networks.Residual(nn.Conv2d(8, 8, 7, padding=3, groups=8))
        self.second = small_networks.Residual(small_networks.convolutions())

    def forward(self, x):
        return self.second(self.mixer(self.first(x)))


class NotResidual(nn.Module):
    """A convolution outside of the branch."""

    def __init__(self):
        super().__init__()
        self.mix, self.mlp = nn.Conv2d(8, 8, 3, padding=1), small_networks.convolutions()

    def forward(self, x):
        x = self.mix(x)
        return x + self.mlp(x)


def on_maps(*blocks):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), *blocks, head)


def test_a_batch_norm_that_reads_a_flattened_output_holds_the_constant():
    structure = find_structure(small_networks.OnTokens(FlattensForItsNorm()), IMAGES)
    assert [part.width_norm for part in structure.parts] == ["block.branch.norm"]


def test_a_branch_whose_positions_are_moved_joins_in_front_of_the_next_layer():
    network = small_networks.OnTokens(small_networks.perceptron())
    network.block = Rolled()
    (part,) = find_structure(network, IMAGES).parts
    assert part.width_addition == Addition("block", "block.norm", at_input=True)
    assert not part.removable


def test_the_branch_of_a_module_that_is_not_residual_as_a_whole_joins_its_output():
    structure = find_structure(on_maps(NotResidual(), nn.ReLU()), IMAGES)
    (part,) = structure.parts
    assert part.width_addition == Addition("1.mlp.0", "1")
    assert not part.removable


def test_a_block_with_two_widths_is_dropped_in_two_parts():
    structure = find_structure(on_maps(TwoBranches()), IMAGES)
    assert [(part.name, part.removable) for part in structure.parts] == [("1.first", True), ("1.second", True)]


def test_convolutions_in_front_of_the_first_block_are_left_whole():
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
    network = on_maps(small_networks.Residual(small_networks.convolutions()))
    network[0] = nn.Sequential(stem, nn.Conv2d(32, 8, 3, padding=1))
    assert [part.name for part in find_structure(network, IMAGES).parts] == ["1"]


def test_the_signal_of_a_deep_model_does_not_fade():
    layers = [layer for _ in range(8) for layer in (nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())]
    model = on_maps(*layers)[:-1].eval()
    with torch.no_grad():
        for layer in layers[::3]:
            layer.weight.mul_(1e-3)
    draw_vectors(model)
    settle_batch_norms(model, IMAGES)
    with torch.no_grad():
        assert 0.1 < float(model(IMAGES).std()) < 10
