"""What spans of time cover together."""

from __future__ import annotations

import pytest

from vitsearch.study.time_spans import total_s, union


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


def test_time_that_spans_share_counts_once_in_the_total_of_their_union():
    spans = [(0.0, 10.0), (5.0, 20.0), (30.0, 31.5)]
    assert (total_s(spans), total_s(union(spans)), total_s([])) == (26.5, 21.5, 0)
