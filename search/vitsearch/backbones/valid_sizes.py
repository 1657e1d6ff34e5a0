"""Sizes of images as constructors of models take them, and those whose sides are multiples of a number."""

from __future__ import annotations

from vitsearch.core.image_size import ImageSize, Sides


def img_size(size: ImageSize) -> int | Sides:
    """The argument of constructors for a size, such as those of timm.

    Args:
        size: The size of the images.

    Returns:
        The side of a square, which some models want as a number; height and width of others.
    """
    return size.height if size.is_square else size.sides


def are_multiples(size: ImageSize, step: int, least: int = 1) -> bool:
    """Whether both sides are multiples.

    Args:
        size: The size of images.
        step: What the sides are to be multiples of, in pixels.
        least: The smallest side that is allowed.

    Returns:
        True if they are.
    """
    return all(side >= least and side % step == 0 for side in size.sides)


def nearest_multiples(size: ImageSize, step: int, least: int = 1) -> str:
    """Name the nearest sizes that are multiples.

    Args:
        size: The size of images.
        step: What the sides are to be multiples of, in pixels.
        least: The smallest side that is allowed: a multiple itself, or 1.

    Returns:
        The next smaller and the next larger one, such as `224 and 256`; the smallest where both are too small.
    """
    smallest = max(step, least)
    below = [side // step * step for side in size.sides]
    above = [under + (step if under != side else 0) for under, side in zip(below, size.sides, strict=True)]
    valid = [ImageSize(*sides) for sides in (below, above) if min(sides) >= smallest]
    near = valid or [ImageSize(*(max(side, smallest) for side in above))]
    return " and ".join(map(str, near))
