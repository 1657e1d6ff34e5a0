"""Bases that ship with vitsearch: small models on a small data set, for the quickstart and the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.fashion_mnist import CLASS_NAMES, SIZE
from vitsearch.errors import WeightsError


@dataclass(frozen=True)
class BuiltinBase:
    """One base. `architecture` is the timm model that gets `arguments`; `asset` its weights (safetensors, fp16)
    at `resolution`, trained on `class_names` as `preprocessing` says. `qualities` are its metrics of classification on
    the validation images of `JUDGED_ON`."""

    family: str
    architecture: str
    arguments: Mapping[str, Any]
    asset: str
    resolution: ImageSize
    class_names: tuple[str, ...]
    channels: int
    preprocessing: Preprocessing
    qualities: Mapping[str, float]

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def path(self) -> Path:
        """The file of the weights; `WeightsError` when the installation lacks it."""
        path = Path(str(resources.files("vitsearch") / "assets" / self.asset))
        if not path.is_file():
            raise WeightsError(f"built-in weights {self.asset} are missing from this installation ({path})")
        return path

    def licence(self) -> str:
        """The licence of the weights, as their description beside them has it."""
        described: dict[str, Any] = json.loads(self.path().with_suffix(".json").read_text())
        return str(described["license"])


@dataclass(frozen=True)
class JudgedOn:
    """The validation images of a data set, by its fingerprint."""

    fingerprint: str
    images: int


JUDGED_ON = JudgedOn("311ea9cc3947638c251e4645bb2e7f6d49766ab36277a7b4d5b111f10d4e739f", 2000)
"""`builtin:fashion-mnist-14k`."""


FASHION_MNIST = Preprocessing((0.2860,), (0.3530,))
"""How all built-in bases read images."""


def _qualities(accuracy: float, top5: float, recall_min: float, f1_macro: float) -> Mapping[str, float]:
    """The metrics of a base. All classes have equally many images, so the mean recall is the accuracy."""
    return MappingProxyType(
        {
            "accuracy": accuracy,
            "accuracy_top5": top5,
            "accuracy_balanced": accuracy,
            "recall_min": recall_min,
            "f1_macro": f1_macro,
        }
    )


def _fashion_mnist(
    family: str, architecture: str, asset: str, qualities: Mapping[str, float], **arguments: Any
) -> BuiltinBase:
    return BuiltinBase(
        family=family,
        architecture=architecture,
        arguments=MappingProxyType(arguments),
        asset=asset,
        resolution=SIZE,
        class_names=CLASS_NAMES,
        channels=1,
        preprocessing=FASHION_MNIST,
        qualities=qualities,
    )


# efficientvit_b0 has one stage more, which would see a single pixel of 28, and wider last layers,
# which would take most of its weights and of its time. At its own stride of 32 the last map of
# mobilevit_xxs would be smaller than one patch of its attention.
BUILTIN: Mapping[str, BuiltinBase] = MappingProxyType(
    {
        "vit_fmnist_p4": _fashion_mnist(
            "vit",
            "vit_tiny_patch16_224",
            "vit_fmnist_p4.safetensors",
            _qualities(0.9055, 0.9995, 0.725, 0.9050894731067125),
            patch_size=4,
            embed_dim=192,
            depth=6,
            num_heads=6,
        ),
        "efficientvit_fmnist": _fashion_mnist(
            "efficientvit_mit",
            "efficientvit_b0",
            "efficientvit_fmnist.safetensors",
            _qualities(0.912, 0.9995, 0.765, 0.9119929562927069),
            widths=(16, 32, 64, 128),
            depths=(1, 2, 2, 1),
            head_widths=(256, 128),
        ),
        "mobilevit_fmnist": _fashion_mnist(
            "mobilevit",
            "mobilevit_xxs",
            "mobilevit_fmnist.safetensors",
            _qualities(0.927, 0.999, 0.78, 0.9266288054337517),
            output_stride=16,
        ),
    }
)
