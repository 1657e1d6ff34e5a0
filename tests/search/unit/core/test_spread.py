"""Rows that lie evenly over a split."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.spread import spread_rows


@given(length=st.integers(0, 500), most=st.integers(0, 500))
def test_the_rows_are_as_many_as_wanted_and_no_two_are_one(length, most):
    rows = spread_rows(length, most)
    assert len(rows) == min(length, most) == len({*rows})
    assert rows == sorted(rows)
    assert all(0 <= row < length for row in rows)


def test_every_class_of_a_sorted_split_has_its_share():
    labels = np.repeat(np.arange(100), 50)
    assert (np.bincount(labels[spread_rows(len(labels), 500)]) == 5).all()
