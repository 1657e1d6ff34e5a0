"""How an image becomes the input of a model. It belongs to the weights: a model reads images as its training did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError

Interpolation = Literal["bilinear", "bicubic"]
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Preprocessing:
    """The way from a stored image of 8-bit pixels to the input of a model.

    The model sees the centre of the image: of the largest part that has the shape of the model's input, `crop_share` of
    each side. So an image is never squashed, as in timm. This centre is resized to the resolution of the model with
    `interpolation` (antialiased) where it has another size. Then `(pixel / 255 - mean) / std`, with one number for each
    channel.
    """

    mean: Numbers
    """Of pixels in [0, 1], for each channel."""
    std: Numbers
    """Of pixels in [0, 1], for each channel."""
    interpolation: Interpolation = "bilinear"
    """How an image is resized."""
    crop_share: float = 1.0
    """Share that the model sees, of each side of the largest part of its shape."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Preprocessing:
        return cls(**value | {"mean": tuple(value["mean"]), "std": tuple(value["std"])})

    def on_channels(self, channels: int) -> Preprocessing:
        """For images of `channels` (1 or 3). Weights for colour read grey images by the averages of their numbers,
        those for grey read each colour as grey."""
        mean, std = (_on_channels(numbers, channels) for numbers in (self.mean, self.std))
        return Preprocessing(mean, std, self.interpolation, self.crop_share)

    def crop_size(self, image_size: ImageSize, resolution: ImageSize) -> ImageSize:
        """The size of the centre of a stored image that a model sees.

        Args:
            image_size: That of the stored image.
            resolution: That of the input of the model, whose shape the centre has.

        Returns:
            The size, in pixels of the stored image.
        """
        (rows, columns), (height, width) = image_size.sides, resolution.sides
        seen = min(rows, columns * height / width), min(columns, rows * width / height)
        return ImageSize(*(max(1, round(side * self.crop_share)) for side in seen))


@dataclass(frozen=True)
class ModelView:
    """What a model sees of an image: how it is read, and its size."""

    resolution: ImageSize
    preprocessing: Preprocessing

    def in_keys(self) -> dict[str, Any]:
        """What enters the keys of what depends on it."""
        return {"resolution": self.resolution.to_json(), "preprocessing": asdict(self.preprocessing)}

    def settings(self, image_size: ImageSize, channels: int) -> dict[str, Any]:
        """Those of `vitsearch_agent.verify.preprocessing` for stored images of this size."""
        return {
            "image_size": image_size.to_json(),
            "channels": channels,
            "crop_size": self.preprocessing.crop_size(image_size, self.resolution).to_json(),
            "interpolation": self.preprocessing.interpolation,
            "resolution": self.resolution.to_json(),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
        }


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Preprocessing((0.5,), (0.5,))
NONE = Preprocessing((0.0,), (1.0,))
USUAL = (IMAGENET, HALF, NONE)
"""The normalisations that most published weights were trained with: ImageNet's, that of -1 to 1, and none."""


@dataclass(frozen=True)
class PreprocessingKeys:
    """What a space file says of the preprocessing of weights; None for what it leaves to the weights. `mean` and
    `std` have one number for all channels, or one for each."""

    mean: Numbers | None = None
    std: Numbers | None = None
    interpolation: Interpolation | None = None
    crop_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        numbers = {"mean": self.mean, "std": self.std}
        return asdict(self) | {key: None if value is None else list(value) for key, value in numbers.items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PreprocessingKeys:
        numbers = {key: None if value[key] is None else tuple(value[key]) for key in ("mean", "std")}
        return cls(**value | numbers)

    def over(self, default: Preprocessing, channels: int) -> Preprocessing:
        """The preprocessing of images with `channels`: what is said here, and the rest of `default`.

        Raises `PlanError` where the images have another number of channels than `mean` or `std`.
        """
        own = default.on_channels(channels)
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) not in (1, channels):
                raise PlanError(
                    f"{name} {list(numbers)} has {len(numbers)} numbers, and the images have {channels} "
                    f"channel{'s' if channels > 1 else ''}; allowed: one number, or one for each channel"
                )
        return Preprocessing(
            own.mean if self.mean is None else _on_channels(self.mean, channels),
            own.std if self.std is None else _on_channels(self.std, channels),
            self.interpolation or own.interpolation,
            own.crop_share if self.crop_share is None else self.crop_share,
        )


OWN = PreprocessingKeys()
"""That of the weights."""


def normalisation_text(preprocessing: Preprocessing) -> str:
    """The normalisation as keys of a space file, such as `mean: 0.5, std: 0.5`."""
    return f"mean: {_text(preprocessing.mean)}, std: {_text(preprocessing.std)}"


def preprocessing_text(preprocessing: Preprocessing) -> str:
    """All of it as keys of a space file."""
    more = f"crop_share: {preprocessing.crop_share:g}, interpolation: {preprocessing.interpolation}"
    return f"{normalisation_text(preprocessing)}, {more}"


def _text(numbers: Sequence[float]) -> str:
    if len(set(numbers)) == 1:
        return f"{numbers[0]:.4g}"
    return f"[{', '.join(f'{number:.4g}' for number in numbers)}]"


def _on_channels(numbers: Numbers, channels: int) -> Numbers:
    if len(numbers) == channels:
        return numbers
    average = numbers[0] if len(set(numbers)) == 1 else round(sum(numbers) / len(numbers), 6)
    return (average,) * channels
