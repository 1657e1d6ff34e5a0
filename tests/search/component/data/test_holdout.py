"""The training images that judge models during the search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vitsearch.data.holdout import set_aside


@pytest.mark.parametrize(("images", "most", "count"), [(1000, 2000, 100), (1000, 30, 30), (5, 2000, 1), (1, 2000, 0)])
def test_a_tenth_is_set_aside_and_no_more_than_asked_for(images, most, count):
    assert len(set_aside(np.zeros(images, np.int64), most)) == count


@given(labels=st.lists(st.integers(0, 4), min_size=10, max_size=300))
@example(labels=[0] * 12 + [1] * 4 + [2] * 4 + [3] * 4 + [4])
def test_each_class_gives_its_share_to_within_an_image_or_two(labels):
    every = np.array(labels)
    rows = set_aside(every, 2000)
    assert (np.diff(rows) > 0).all()
    share, classes = len(rows) / len(every), set(labels)
    for label in classes:
        size = (every == label).sum()
        off = abs((every[rows] == label).sum() - share * size)
        assert off <= (1 + len(classes) * size / len(every)) / 2 + 1e-9


def test_a_class_of_one_image_keeps_it_to_learn_from():
    labels = np.array([0] * 50 + [1])
    assert 50 not in set_aside(labels, 2000)


def test_the_draw_depends_on_the_labels_alone():
    labels = np.random.default_rng(1).integers(0, 5, 500)
    assert (set_aside(labels, 2000) == set_aside(labels.copy(), 2000)).all()
    assert len(set(set_aside(labels, 2000)) & set(set_aside(labels, 20))) == 20
