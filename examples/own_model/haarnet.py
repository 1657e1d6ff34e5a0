"""A network that is in no library: Haar wavelets halve the map, and shifts of channels mix its positions.

{python: "haarnet:make", name: haarnet, resolution: 28}      in a space file of the same folder
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Haar(nn.Module):
    """Halves each side of a map: averages and three differences of 2 x 2 pixels, then a choice of channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        signs = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
        self.filters: torch.Tensor
        self.register_buffer("filters", signs.reshape(4, 1, 2, 2).repeat(channels, 1, 1, 1), persistent=False)
        self.choose = nn.Conv2d(4 * channels, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.choose(functional.conv2d(x, self.filters, stride=2, groups=x.shape[1])))
        return y


class Shift(nn.Module):
    """A quarter of the channels moves by a pixel to each side, then each position mixes its channels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.grow = nn.Conv2d(width, hidden, 1)
        self.gate = nn.Conv2d(width, hidden, 1)
        self.shrink = nn.Conv2d(hidden, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.norm(x).chunk(4, dim=1)
        moved = [
            part.roll(by, axis) for part, (by, axis) in zip(parts, ((1, 2), (-1, 2), (1, 3), (-1, 3)), strict=True)
        ]
        y = torch.cat(moved, dim=1)
        mixed: torch.Tensor = self.shrink(functional.silu(self.gate(y)) * self.grow(y))
        return x + mixed


class HaarNet(nn.Module):
    def __init__(self, classes: int, channels: int, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.first = Haar(channels, width)
        self.fine = nn.Sequential(*(Shift(width, 2 * width) for _ in range(depth)))
        self.second = Haar(width, 2 * width)
        self.coarse = nn.Sequential(*(Shift(2 * width, 4 * width) for _ in range(depth)))
        self.classify = nn.Linear(2 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.coarse(self.second(self.fine(self.first(images))))
        logits: torch.Tensor = self.classify(maps.mean((2, 3)))
        return logits


def make(classes: int, channels: int) -> nn.Module:
    """What vitsearch calls. It gives `resolution` too, to a function that takes it."""
    return HaarNet(classes, channels)
