"""A small detector without anchors: two maps of a ConvNeXt of timm, joined by a decoder that gives one map.

{python: "detector:make", name: detector, resolution: 64}      in a space file of the same folder
"""

from __future__ import annotations

import timm
import torch
from torch import nn
from torch.nn import functional


class Decoder(nn.Module):
    """Joins a map with one of half its size, and gives the outputs of each of its positions."""

    def __init__(self, fine: int, coarse: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.fine = nn.Conv2d(fine, width, 1)
        self.coarse = nn.Conv2d(coarse, width, 1)
        self.mix = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.predict = nn.Conv2d(width, outputs, 1)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        joined = self.fine(fine) + functional.interpolate(self.coarse(coarse), scale_factor=2.0)
        outputs: torch.Tensor = self.predict(self.mix(functional.relu(joined)))
        return outputs


class Detector(nn.Module):
    """Gives outputs for each position of a map of an eighth of the image in height and width."""

    def __init__(self, outputs: int, channels: int) -> None:
        super().__init__()
        sizes = {"depths": (2, 2, 4, 1), "dims": (32, 64, 128, 256), "conv_mlp": False, "ls_init_value": 1.0}
        read = {"features_only": True, "out_indices": (1, 2)}  # of four maps; the last one is not built
        self.backbone = timm.create_model("convnext_atto", in_chans=channels, **read, **sizes)
        fine, coarse = self.backbone.feature_info.channels()
        self.decoder = Decoder(fine, coarse, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.decoder(*self.backbone(images))
        return outputs


def make(classes: int, channels: int) -> nn.Module:
    """What vitsearch calls; `classes` is the number of outputs that the task asks for."""
    return Detector(classes, channels)
