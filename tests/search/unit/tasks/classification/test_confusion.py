"""Confusion counts: the figures that follow from them, and their intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitsearch.core.pareto import wilson
from vitsearch.tasks.classification.confusion import NO_CLASS, Confusion

DEFECTS = Confusion(((0, 0, 790), (0, 1, 10), (1, 0, 60), (1, 1, 200), (2, 0, 100), (2, 1, 38), (2, 2, 12)))
NAMES = ("none", "scratch", "local")
answers = st.lists(st.tuples(st.integers(0, 4), st.integers(NO_CLASS, 4)), min_size=1, max_size=60)
counted = answers.map(lambda pairs: Confusion.of(*zip(*pairs, strict=True)))


def brute_force(pairs):
    """Mean recall, smallest recall and mean F1 of (label, predicted), from their definitions."""
    recalls, scores = [], []
    for label in {label for label, _ in pairs}:
        right = sum(answer == label == other for answer, other in pairs)
        images, taken = sum(answer == label for answer, _ in pairs), sum(other == label for _, other in pairs)
        recall, precision = right / images, right / taken if taken else 0.0
        recalls.append(recall)
        scores.append(2 * recall * precision / (recall + precision) if right else 0.0)
    return np.mean(recalls), min(recalls), np.mean(scores)


@given(answers)
@settings(deadline=None, max_examples=25)
def test_figures_are_those_of_their_definitions(pairs):
    figures = Confusion.of(*zip(*pairs, strict=True)).figures()
    values = [figures[name].value for name in ("accuracy_balanced", "recall_min", "f1_macro")]
    assert values == pytest.approx(brute_force(pairs))


@given(counted)
@settings(deadline=None, max_examples=25)
def test_every_interval_holds_its_value_and_stays_within_0_and_1(confusion):
    for figure in confusion.figures().values():
        assert 0.0 <= figure.low <= figure.value + 1e-12
        assert figure.value - 1e-12 <= figure.high <= 1.0


@given(counted)
@settings(deadline=None, max_examples=25)
def test_images_that_are_all_right_leave_room_for_doubt(confusion):
    right = Confusion.of(*[[label for label, _, n in confusion.cells for _ in range(n)]] * 2)
    for figure in right.figures().values():
        assert figure.value == 1.0
        assert figure.low < 1.0


@given(counted)
@settings(deadline=None, max_examples=25)
def test_equal_counts_give_equal_figures(confusion):
    again = Confusion.from_json(json.loads(json.dumps(confusion.to_json())))
    assert again == confusion
    assert again.figures() == confusion.figures()


@given(answers)
def test_counts_are_of_every_image_and_never_more_than_images(pairs):
    confusion = Confusion.of(*zip(*pairs, strict=True))
    assert confusion.n == len(pairs)
    assert confusion.correct == sum(label == predicted for label, predicted in pairs)
    assert len(confusion.cells) <= len(pairs)


@given(counted)
def test_the_classes_add_up_to_the_whole(confusion):
    classes = confusion.by_class("abcde")
    assert sum(row.n for row in classes) == confusion.n
    assert sum(row.correct for row in classes) == confusion.correct
    assert sum(row.predicted for row in classes) <= confusion.n
    assert all((row.confused_with is None) == (row.correct == row.n) for row in classes)


@given(counted, st.integers(2, 50))
@settings(deadline=None, max_examples=25)
def test_more_images_of_the_same_kind_narrow_the_intervals_of_recalls(confusion, times):
    more = Confusion(tuple((label, predicted, n * times) for label, predicted, n in confusion.cells)).figures()
    for name, figure in confusion.figures().items():
        assert more[name].value == pytest.approx(figure.value)
    for name in ("accuracy_balanced", "recall_min"):
        figure = confusion.figures()[name]
        assert more[name].high - more[name].low < figure.high - figure.low


def test_a_class_says_what_it_is_taken_for():
    local = DEFECTS.by_class(NAMES)[2]
    assert (local.n, local.correct, local.confused_with, local.confused) == (150, 12, "none", 100)
    assert (local.low, local.high) == wilson(12, 150)
    assert (local.predicted, local.precision) == (12, 1.0)


def test_the_worst_class_has_the_interval_of_its_own_share():
    worst = DEFECTS.figures()["recall_min"]
    assert (worst.value, worst.low, worst.high) == (12 / 150, *wilson(12, 150))


def test_a_class_that_is_never_named_has_no_precision():
    confusion = Confusion(((0, 0, 3), (1, 0, 2)))
    assert [row.precision for row in confusion.by_class("ab")] == [0.6, None]


def test_an_image_without_an_answer_is_wrong():
    confusion = Confusion(((0, NO_CLASS, 1), (0, 0, 3)))
    (only,) = confusion.by_class("a")
    assert (confusion.correct, only.confused_with, only.confused) == (3, "no class", 1)


@pytest.mark.parametrize(
    "cells", [(), ((0, 0, 0),), ((0, -2, 1),), ((-1, 0, 1),), ((1, 1, 1), (0, 0, 1)), ((0, 0, 1), (0, 0, 1))]
)
def test_other_cells_are_refused(cells):
    with pytest.raises(ValueError, match="confusion counts"):
        Confusion(cells)


def test_counts_of_a_thousand_classes_stay_small():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 50_000)
    predicted = np.where(rng.random(50_000) < 0.8, labels, rng.integers(0, 1000, 50_000))
    confusion = Confusion.of(labels, predicted)
    assert len(json.dumps(confusion.to_json())) < 200_000
    f1 = confusion.figures()["f1_macro"]
    assert 0.78 < f1.low < f1.value < f1.high < 0.82
