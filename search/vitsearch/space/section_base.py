"""The base class of all sections of a space file, and the types that several sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from vitsearch.core.image_size import LEAST_PIXELS, MOST_PIXELS, ImageSize
from vitsearch.core.preprocessing import Interpolation, PreprocessingKeys
from vitsearch.space.value_types import (
    Either,
    Int,
    Number,
    Text,
    channel_number,
    height_and_width,
    list_or,
    no_size,
    one_for_each,
    weights_name,
)

BUILTIN_BASES = ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist")
"""Backbones whose starting weights are part of vitsearch; every other backbone starts from the hub by default."""

Weights = Annotated[Text, AfterValidator(weights_name)]
Seed = Annotated[Int, Field(ge=0, le=2**32 - 1)]
Count = Annotated[Int, Field(ge=1, le=10**9)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
_Mean = Annotated[Number, AfterValidator(channel_number(0.0))]
_Deviation = Annotated[Number, AfterValidator(channel_number(1e-4))]
ChannelNumbers = Annotated[tuple[float, ...], Either(list_or("<number>"), one_for_each(_Mean))]
ChannelDeviations = Annotated[tuple[float, ...], Either(list_or("<number>"), one_for_each(_Deviation))]
_Pixels = Annotated[Int, Field(ge=LEAST_PIXELS, le=MOST_PIXELS)]


def _written(value: Any) -> Any:
    """A size as a file has it; a word is none."""
    if isinstance(value, str):
        raise no_size(repr(value))
    return value.to_json() if isinstance(value, ImageSize) else value


Square = Annotated[_Pixels, AfterValidator(ImageSize.square), BeforeValidator(_written)]
"""The side of square images, in pixels."""
_SIDE = {"type": "integer", "minimum": LEAST_PIXELS, "maximum": MOST_PIXELS}
_Rectangle = Annotated[
    tuple[_Pixels, ...],
    AfterValidator(height_and_width),
    WithJsonSchema({"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}),
]

Size = Annotated[
    ImageSize,
    Either(list_or("<number>"), {"<number>": Square, "<list>": _Rectangle}),
    BeforeValidator(_written),
    PlainSerializer(ImageSize.to_json),
]
"""The side of square images, or height and width of others, in pixels."""


def _title(section: type) -> str:
    """The title of a section in the JSON Schema."""
    return section.__name__.removesuffix("Section")


class Section(BaseModel):
    """A frozen section that refuses unknown keys. A key without a value counts as left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, model_title_generator=_title)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in names}


class StartingWeights(Section):
    """Weights to start from, and how a model with them reads images."""

    weights: Weights = ""
    """builtin, hub, none (random) or file:PATH (default: builtin if vitsearch has weights for it, otherwise hub). hub
    downloads timm's weights of the name, once; a machine without a network needs none or file:PATH."""
    mean: ChannelNumbers | None = None
    """Mean that is subtracted from pixels in [0, 1]: one number, or one for each channel (default: that of the weights;
    of a file, that of the timm name)."""
    std: ChannelDeviations | None = None
    """Standard deviation by which pixels are divided then (default: as for mean)."""
    interpolation: Interpolation | None = None
    """How images are resized: bilinear or bicubic (default: as for mean)."""
    crop_share: Annotated[Number, Field(ge=0.1, le=1)] | None = None
    """Share of each side of an image, around its centre, that the model sees (default: as for mean)."""

    @property
    def preprocessing(self) -> PreprocessingKeys:
        return PreprocessingKeys(self.mean, self.std, self.interpolation, self.crop_share)


def default_weights(backbone: str) -> str:
    return "builtin" if backbone in BUILTIN_BASES else "hub"


def with_weights(data: Any, key: str) -> Any:
    if isinstance(data, dict) and data.get("weights") is None and isinstance(data.get(key), str):
        return data | {"weights": default_weights(data[key])}
    return data
