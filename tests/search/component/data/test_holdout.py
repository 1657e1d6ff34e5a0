"""The training images that judge models during the search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vitsearch.data.holdout import rows_to_learn, set_aside
from vitsearch.data.splits import first_rows


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


@given(st.data())
def test_no_copy_of_an_image_that_judges_is_learned(data):
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=60)))
    contents = data.draw(st.lists(st.integers(0, 20), min_size=len(labels), max_size=len(labels)))
    firsts = first_rows([str(content) for content in contents])
    holdout = set_aside(labels, 2000, firsts)
    learned = rows_to_learn(len(labels), holdout, firsts)
    judged = [contents[row] for row in holdout]
    assert len(judged) == len({*judged})
    assert learned.tolist() == [row for row, content in enumerate(contents) if content not in judged]


def test_a_class_of_many_copies_keeps_most_of_its_images_to_learn_from():
    """Thirty copies of each of twenty images: a tenth of the rows, drawn without a look at them, has nearly all."""
    contents = np.repeat(np.arange(200), [30] * 20 + [1] * 180)
    labels = np.repeat([0, 1], [600, 180])
    firsts = first_rows([str(content) for content in contents])
    learned = rows_to_learn(len(labels), set_aside(labels, 2000, firsts), firsts)
    assert len({*contents[learned]} & {*range(20)}) == 18
