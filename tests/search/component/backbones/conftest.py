"""How much of the contract of families runs in `make test`.

All of it for three families of different kinds; for the others names, weights, cuts and
exports; nothing for further models of a family. `make test-long` has the rest.
"""

from __future__ import annotations

import pytest

WHOLE = {"TestBuiltinBase", "TestLevit", "TestRepViT"}
"""Attention over all tokens, attention between convolutions, convolutions alone."""
FURTHER = {
    "TestFastViT",
    "TestGreyImagesOf28Pixels",
    "TestLarge",
    "TestLevitOfConvolutions",
    "TestMobileViTv2",
    "TestSwinS3",
}
"""Models of families that another test case covers."""
REST = {
    "CuttingTests.test_a_model_without_blocks_equals_one_whose_blocks_add_nothing",
    "FittingTests",
    "LearningTests",
    "PrecisionTests",
    "FamilyTests.test_another_window_loads_the_weights_and_is_cut_and_exported",
}
"""Classes and tests of the contract (`vitsearch.testing.families`)."""


def pytest_itemcollected(item: pytest.Item) -> None:
    subject = getattr(item, "cls", None)
    if subject is None or subject.__name__ in WHOLE:
        return
    name = item.function.__qualname__  # of the class that defines it
    if subject.__name__ in FURTHER or not REST.isdisjoint((name, name.partition(".")[0])):
        item.add_marker(pytest.mark.long)
