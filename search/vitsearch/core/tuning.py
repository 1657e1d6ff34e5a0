"""How a backbone is trained where the space file leaves it open: what won on it (`benchmarks/recipes.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Tuning:
    """Peak learning rates of AdamW, for a fine-tune and for training with int8 rounding, and whether batch norms keep
    their statistics meanwhile. The defaults are those for a backbone on which nothing was measured."""

    lr: float = 1e-4
    qat_lr: float = 1e-4
    frozen_statistics: bool = False


TUNINGS: Mapping[str, Tuning] = MappingProxyType(
    {
        "vit_fmnist_p4": Tuning(lr=3e-4, qat_lr=3e-4),
        "efficientvit_fmnist": Tuning(lr=1e-3, qat_lr=3e-4),
        "mobilevit_fmnist": Tuning(lr=1e-3, qat_lr=3e-4),
    }
)
"""By backbone, for the bases that ship with vitsearch."""


def tuning_of(backbone: str) -> Tuning:
    return TUNINGS.get(backbone, Tuning())
