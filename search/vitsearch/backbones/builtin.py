"""Bases that come with vitsearch: trained by ``tools/``, committed as fp16, small enough for a first try."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class BuiltinBase:
    """``architecture`` is a timm name, built with ``arguments``; the weights file bears the base's name."""

    architecture: str
    classes: int
    channels: int
    resolution: int
    arguments: dict[str, Any] = field(default_factory=dict)


BUILTIN: dict[str, BuiltinBase] = {
    "vit_fmnist_p4": BuiltinBase(
        architecture="vit_tiny_patch16_224",
        classes=10,
        channels=1,
        resolution=28,
        arguments={"patch_size": 4, "embed_dim": 192, "depth": 6, "num_heads": 6},
    ),
}


def asset(name: str) -> Path:
    return ASSETS / f"{name}.safetensors"
