"""What classification makes of outputs."""

from __future__ import annotations

import numpy as np
import pytest

from vitsearch.tasks import CLASSIFICATION, Truth
from vitsearch.tasks.classification.confusion import NO_CLASS, Confusion
from vitsearch.tasks.classification.task import judged_counts

NAMES = tuple("abcdefgh")


def of(labels, rows, names=NAMES):
    logits = np.zeros((len(rows), len(names)), np.float32)
    for image, classes in enumerate(rows):
        for place, label in enumerate(classes):
            logits[image, label] = len(names) - place
    return CLASSIFICATION.judge(logits, Truth(np.array(labels), names))


def test_an_image_is_right_among_the_first_five_classes():
    judged = of([0, 0, 0], [(0, 1, 2, 3, 4), (1, 2, 3, 4, 0), (1, 2, 3, 4, 5)])
    assert judged.values["accuracy"] == pytest.approx(1 / 3)
    assert judged.values["accuracy_top5"] == pytest.approx(2 / 3)
    figure = judged.figures["accuracy_top5"]
    assert figure.low < 2 / 3 < figure.high


@pytest.mark.parametrize("classes", [2, 5])
def test_of_five_classes_or_fewer_the_first_five_say_nothing(classes):
    judged = of([0, 1], [(0,), (0,)], NAMES[:classes])
    figure = judged.figures["accuracy_top5"]
    assert (figure.value, figure.reason) == (
        None,
        f"the data has {classes} classes, and every class is among the first 5",
    )
    assert "accuracy_top5" not in judged.values


def test_classes_that_an_agent_returns_are_judged_as_the_logits_are():
    """All metrics but the one that needs the other logits."""
    labels, rows = [0, 1, 2], [(0,), (2,), (2,)]
    reduced = CLASSIFICATION.judge(np.array([0, 2, 2], np.float32), Truth(np.array(labels), NAMES))
    whole = of(labels, rows)
    assert reduced.tally == whole.tally == [[0, 0, 1], [1, 2, 1], [2, 2, 1]]
    assert reduced.figures == {name: figure for name, figure in whole.figures.items() if name != "accuracy_top5"} | {
        name: figure for name, figure in reduced.figures.items() if name == "accuracy_top5"
    }


def test_a_model_that_predicts_one_class_is_noted():
    (constant, several, none) = (
        judged_counts(Confusion(cells), NAMES).figures["accuracy"].note
        for cells in (((0, 1, 3), (1, 1, 2)), ((0, 0, 3), (1, 1, 2)), ((0, NO_CLASS, 3),))
    )
    assert constant == "the model predicts one class only, 'b'"
    assert several is none is None


def test_each_image_is_right_or_wrong():
    logits = np.eye(8, dtype=np.float32)[[0, 2, 2]]
    assert CLASSIFICATION.pair(logits, Truth(np.array([0, 1, 2]), NAMES)).tolist() == [1.0, 0.0, 1.0]
