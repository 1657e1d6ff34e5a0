"""Image files of 16 bits for a pixel whose values fill 10 or 12: the upper 8 are used, so a model sees black."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image

from vitsearch.data.pixels import upper_bits

LEAST_BRIGHT = 32  # of 255; an image of 13 bits in 16 stays below
LEAST_SHARE = 0.05
"""Of the files of 16 bits; single photos are black."""


def brightest_pixel(image: Image.Image) -> int:
    """The brightest pixel of an image of 16 bits, of 255 as it is decoded."""
    return int(upper_bits(image).max())


def too_dark(brightest: Mapping[str, int]) -> str | None:
    """Say that files of 16 bits are almost black.

    Args:
        brightest: The brightest pixels of those that were decoded, by name.

    Returns:
        A sentence; None where nearly all are bright.
    """
    dark = {name: most for name, most in brightest.items() if most < LEAST_BRIGHT}
    if len(dark) < max(1, LEAST_SHARE * len(brightest)):
        return None
    return (
        f"files of 16 bits with small values: in {len(dark):,} of the {len(brightest):,} that were decoded, such as "
        f"{next(iter(dark))}, the brightest pixel is at most {max(dark.values())} of 255, as the upper 8 of the 16 "
        "bits are used. Multiply the pixels so that they fill 16 bits (of 10 bits by 64, of 12 by 16), or write files "
        "of 8 bits"
    )
