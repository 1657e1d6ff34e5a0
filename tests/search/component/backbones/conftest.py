"""Which families keep the whole contract in ``make test``: one of each layout of attention, and one without any."""

from __future__ import annotations

import pytest

WHOLE = {"TestBuiltinBase", "TestSwin", "TestLevit", "TestRepViT"}
"""Attention over all tokens, in windows, between convolutions; convolutions alone."""
REST = {"FittingTests", "LearningTests", "PrecisionTests"}
"""What the contract adds to names, weights, cuts and exports (:mod:`vitsearch.testing.families`)."""


def pytest_itemcollected(item: pytest.Item) -> None:
    function, subject = getattr(item, "function", None), getattr(item, "cls", None)
    if subject is not None and subject.__name__ not in WHOLE and function.__qualname__.partition(".")[0] in REST:
        item.add_marker(pytest.mark.long)
