"""The size of an image in pixels: a square, or another rectangle."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING, Any

from vitsearch.errors import PlanError

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

LEAST_PIXELS, MOST_PIXELS = 8, 4096
"""Of a side of an image, in a space file."""
MAP_SHARE = 4
"""Pixels of an image for each position of a map that models give, in height and width."""
Sides = tuple[int, int]
"""The height and the width of a map or a window, in tokens."""


@total_ordering
@dataclass(frozen=True)
class ImageSize:
    """Height and width of an image, in pixels. Sizes are ordered by their number of pixels, then by their height.

    In text and in JSON a square is its side, `224`; another rectangle is `192x256` and `[192, 256]`.

    Attributes:
        height: Rows of pixels.
        width: Columns of pixels.

    Raises:
        PlanError: A side has no pixel.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise PlanError(f"{self} pixels is not a valid image size: each side has at least one")

    @classmethod
    def square(cls, side: int) -> ImageSize:
        """A square.

        Args:
            side: Its side, in pixels.

        Returns:
            The size.
        """
        return cls(side, side)

    @classmethod
    def of(cls, value: int | Sequence[int]) -> ImageSize:
        """Read what `to_json` returned.

        Args:
            value: The side of a square, or height and width.

        Returns:
            The size.
        """
        return cls.square(value) if isinstance(value, int) else cls(*value)

    @classmethod
    def of_text(cls, text: str) -> ImageSize:
        """Read the text of a size.

        Args:
            text: Such as `224` or `192x256`.

        Returns:
            The size.

        Raises:
            PlanError: It is none.
        """
        match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text, re.ASCII)
        if match is None:
            raise PlanError(f"{text!r} is not a size of images; write the side, or height x width: 224, 192x256")
        height, width = match.groups(match[1])
        return cls(int(height), int(width))

    def to_json(self) -> int | list[int]:
        """Convert to plain values.

        Returns:
            The side of a square; height and width of another rectangle.
        """
        return self.height if self.is_square else [self.height, self.width]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """What `--json` prints of a size has the form of `to_json`."""
        from pydantic_core import core_schema  # here, as the command line starts without it

        rectangle = core_schema.list_schema(core_schema.int_schema(), min_length=2, max_length=2)
        printed = core_schema.union_schema([core_schema.int_schema(), rectangle])
        form = core_schema.plain_serializer_function_ser_schema(cls.to_json, return_schema=printed)
        return core_schema.is_instance_schema(cls, serialization=form)

    def __str__(self) -> str:
        return str(self.height) if self.is_square else f"{self.height}x{self.width}"

    def __lt__(self, other: ImageSize) -> bool:
        return (self.pixels, self.height) < (other.pixels, other.height)

    @property
    def is_square(self) -> bool:
        return self.height == self.width

    @property
    def sides(self) -> Sides:
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.height * self.width

    @property
    def side(self) -> float:
        """The side of a square of as many pixels."""
        return math.sqrt(self.pixels)

    @property
    def by(self) -> str:
        """Both sides in words, such as `28 x 28`."""
        return f"{self.height} x {self.width}"

    def has_shape_of(self, other: ImageSize) -> bool:
        """Whether the two have the same ratio of height to width, but for rounding to a pixel.

        Args:
            other: Another size.

        Returns:
            True if one is the other at another scale.
        """
        off = abs(self.height * other.width - self.width * other.height)
        return off <= min(max(self.sides), max(other.sides)) / 2

    def cut_share(self, height: int, width: int) -> float:
        """How much of an image is cut off, on two sides, so that it gets this shape.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Returns:
            The share of its pixels, from 0 to below 1.
        """
        ratio = (self.height * width) / (self.width * height)
        return 1 - min(ratio, 1 / ratio)

    def holds(self, other: ImageSize) -> bool:
        """Whether an image of another size lies inside one of this size.

        Args:
            other: The other size.

        Returns:
            True if neither of its sides is longer.
        """
        return self.height >= other.height and self.width >= other.width

    def scaled(self, factor: float) -> ImageSize:
        """Scale both sides.

        Args:
            factor: Above 0.

        Returns:
            The size whose sides are that of this one times `factor`, rounded, of at least one pixel.
        """
        return ImageSize(*(max(1, round(side * factor)) for side in self.sides))


def smallest_enclosing(sizes: Sequence[ImageSize]) -> ImageSize:
    """Find the smallest size that holds each of several.

    Args:
        sizes: At least one.

    Returns:
        The largest height with the largest width.
    """
    return ImageSize(max(size.height for size in sizes), max(size.width for size in sizes))
