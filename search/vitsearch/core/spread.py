"""Some rows of all of a split."""

from __future__ import annotations


def spread_rows(length: int, most: int) -> list[int]:
    """Choose rows that lie evenly over a split: those of a folder are in the order of their classes.

    Args:
        length: The number of rows of the split.
        most: How many are wanted.

    Returns:
        Their indices, ascending; all of a smaller split.
    """
    count = min(most, length)
    return [number * length // count for number in range(count)]
