"""What is said of qualities whose images models know."""

from __future__ import annotations

import pytest

from vitsearch.core.caveats.leaks import LEAST_SHARE, leak_text


def test_each_split_whose_images_are_known_is_counted():
    leaks = {"validation": {"images": 2000, "alike": 1230}, "test": {"images": 500, "alike": 5}}
    assert leak_text(leaks) == (
        "1,230 of the 2,000 validation images and 5 of the 500 test images that were compared show nearly the same as "
        "training images: the qualities measured on them are likely too high for things that no model has seen"
    )


def test_of_two_splits_only_the_one_with_a_leak_is_named():
    text = leak_text({"validation": {"images": 2000, "alike": 0}, "test": {"images": 500, "alike": 60}})
    assert text is not None
    assert text.startswith("60 of the 500 test images that were compared")
    assert "validation" not in text


@pytest.mark.parametrize(
    "leaks",
    [
        {},
        {"validation": {"images": 0, "alike": 0}},
        {"validation": {"images": 1000, "alike": round(LEAST_SHARE * 1000) - 1}},
        {"holdout": {"images": 300, "alike": 220}},
    ],
    ids=["nothing was compared", "no images", "fewer than pair by chance", "images that judge in the search alone"],
)
def test_nothing_is_said_of_images_that_change_no_quality(leaks):
    assert leak_text(leaks) is None
