"""The task of a class for each pixel: losses, divergence and what is said of classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from vitsearch.tasks import TrainingTargets, Truth
from vitsearch.tasks.segmentation.task import SEGMENTATION
from vitsearch_agent.verify.segmentation import IGNORED

CLASSES = ("sky", "tree", "road")


def maps(seed=0, n=3, size=(4, 6)):
    return np.random.default_rng(seed).normal(size=(n, len(CLASSES), *size)).astype(np.float32)


def masks(seed=1, n=3, size=(4, 6)):
    return np.random.default_rng(seed).integers(0, len(CLASSES), (n, *size)).astype(np.uint8)


def test_the_loss_is_the_mean_over_the_pixels_that_count():
    outputs, labels = torch.from_numpy(maps()), torch.from_numpy(masks())
    labels[0, :2] = IGNORED
    rows = outputs.permute(0, 2, 3, 1)[labels != IGNORED]
    expected = functional.cross_entropy(rows, labels[labels != IGNORED].long())
    assert SEGMENTATION.loss(outputs, TrainingTargets(labels)) == pytest.approx(float(expected), rel=1e-5)


def test_the_loss_of_masks_that_are_ignored_is_nothing():
    labels = torch.full((3, 4, 6), IGNORED, dtype=torch.uint8)
    assert SEGMENTATION.loss(torch.from_numpy(maps()), TrainingTargets(labels)) == 0.0


def test_a_larger_mask_is_read_at_the_nearest_pixels():
    outputs, labels = torch.from_numpy(maps()), masks()
    larger = torch.from_numpy(labels.repeat(3, axis=1).repeat(3, axis=2))
    loss = SEGMENTATION.loss(outputs, TrainingTargets(torch.from_numpy(labels)))
    assert SEGMENTATION.loss(outputs, TrainingTargets(larger)) == pytest.approx(float(loss))


def test_the_divergence_is_the_mean_over_pixels():
    outputs, reference = maps(0), maps(2)
    first, second = (torch.log_softmax(torch.from_numpy(each[1]).double(), 0) for each in (outputs, reference))
    expected = (second.exp() * (second - first)).sum(0).mean()
    assert SEGMENTATION.diverge(outputs, reference)[1] == pytest.approx(float(expected))


def test_a_class_that_is_hardly_found_is_named():
    labels = np.zeros((8, 4, 6), np.uint8)
    labels[:, :2], labels[:, 3, 5] = 1, 2
    predicted = labels.copy()
    predicted[:, 3, 5] = 0
    judged = SEGMENTATION.judge(predicted, Truth(labels, CLASSES))
    assert judged.values["iou_min"] == 0.0
    (sentence,) = SEGMENTATION.warnings({"trial 3": judged.tally}, {}, CLASSES)
    assert sentence.startswith("trial 3 hardly finds 'road' (0.00)")
    assert SEGMENTATION.details(judged.tally, CLASSES)["classes"]["tree"]["iou"] == 1.0


def test_a_class_that_no_pixel_is_given_is_a_note_of_the_figure():
    """A constant answer has a mean of its own: here a third of the largest class."""
    truth = np.array([[[0, 0], [1, 2]]], np.uint8)
    constant, complete = np.zeros((1, 2, 2), np.int64), truth.astype(np.int64)
    notes = [
        SEGMENTATION.judge(maps, Truth(truth, ("soil", "crop", "weed"))).figures["mean_iou"].note
        for maps in (constant, complete)
    ]
    assert notes == ["the model gives no pixel the class 'crop', 'weed'", None]


def test_masks_that_are_ignored_give_no_figure_but_a_reason():
    judged = SEGMENTATION.judge(maps(), Truth(np.full((3, 4, 6), IGNORED, np.uint8), CLASSES))
    assert {figure.value for figure in judged.figures.values()} == {None}
    assert all(figure.reason for figure in judged.figures.values())
