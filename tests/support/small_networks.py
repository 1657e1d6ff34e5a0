"""Small networks, each with one thing that a cut has to get right."""

import torch
from timm.layers import SqueezeExcite
from timm.layers.grn import GlobalResponseNorm
from torch import nn

HIDDEN = 32


class Residual(nn.Module):
    """Adds what its branch makes of the input."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Gated(nn.Module):
    """SwiGLU of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value, self.out = nn.Linear(8, HIDDEN), nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.silu(self.gate(x)) * self.value(x))


class Halves(nn.Module):
    """A gate and its values in one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm, self.out = nn.Linear(8, 2 * HIDDEN), nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.both(x).chunk(2, dim=-1)
        return self.out(self.norm(gate.sigmoid() * value))


class Mixed(nn.Module):
    """Looks like a width, but the channels are reversed between the two layers, and then added up in pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.fc1(x)
        return self.fc2(hidden + hidden.flip(-1))


class Attention(nn.Module):
    """Four heads whose rows lie `[queries, keys, values][heads]`, or `[heads][queries, keys, values]`."""

    def __init__(self, by_head: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self._by_head = 4, 4, by_head
        self.qkv, self.proj = nn.Linear(8, 48), nn.Linear(16, 8)
        self.bias_table = nn.Parameter(torch.randn(9, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        parts = (self.num_heads, 3) if self._by_head else (3, self.num_heads)
        rows = self.qkv(x).reshape(batch, tokens, *parts, self.head_dim)
        queries, keys, values = rows.transpose(2, 3).unbind(3) if not self._by_head else rows.unbind(3)
        scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys) + self.bias_table.mean(0).view(1, -1, 1, 1)
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), values)
        return self.proj(mixed.reshape(batch, tokens, -1))


def convolutions(middle: nn.Module | None = None, kernel: int = 1) -> nn.Sequential:
    """An inverted bottleneck with something between its two layers."""
    return nn.Sequential(
        nn.Conv2d(8, HIDDEN, 1),
        nn.BatchNorm2d(HIDDEN),
        nn.ReLU(inplace=True),
        middle or nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1, groups=HIDDEN),
        nn.Conv2d(HIDDEN, 8, kernel, padding=kernel // 2),
    )


def perceptron(middle: nn.Module | None = None) -> nn.Sequential:
    """Two linear layers with something between."""
    return nn.Sequential(nn.Linear(8, HIDDEN), nn.GELU(), middle or nn.Identity(), nn.Linear(HIDDEN, 8))


def on_maps(branch: nn.Module) -> nn.Module:
    """A network of images around a residual branch on maps of 8 channels."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), Residual(branch), Residual(convolutions()), head)


class OnTokens(nn.Module):
    """A network of images around a residual branch on tokens of 8 channels."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 4, 4), Residual(branch), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.block(self.stem(images).flatten(2).transpose(1, 2))
        logits: torch.Tensor = self.head(tokens.mean(1))
        return logits


def squeeze() -> nn.Module:
    return SqueezeExcite(HIDDEN, rd_channels=4)


def response_norm() -> nn.Module:
    return GlobalResponseNorm(HIDDEN, channels_last=False)
