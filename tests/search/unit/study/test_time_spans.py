"""What spans of time cover together."""

from __future__ import annotations

import pytest

from vitsearch.study.time_spans import union


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(0, 600), (300, 900)], [(0, 900)]),
        ([(300, 900), (0, 1000)], [(0, 1000)]),
        ([(5, 6), (0, 1), (1, 2)], [(0, 2), (5, 6)]),
    ],
)
def test_spans_that_overlap_or_touch_are_one(spans, expected):
    assert union(spans) == expected
