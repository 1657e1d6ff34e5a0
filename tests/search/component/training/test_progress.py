"""A training tells how far it is."""

from __future__ import annotations

import pytest

from vitsearch.core.activity import Work, doing
from vitsearch.training.progress import TrainingProgress


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def train(work):
    """Trains for four epochs of five steps of 3 s; the first takes longer."""

    def steps(count, figure=1.0, epochs=4.0):
        now = [0.0]
        with doing(work):
            progress = TrainingProgress(epochs, 20, "accuracy", clock=lambda: now[0])
        for step in range(count):
            now[0] += 30.0 if step == 0 else 3.0
            progress.step(figure, 2)
        return work.text

    return steps


def test_epoch_accuracy_and_time_left_are_told(train):
    assert train(10) == "epoch 2/4, train accuracy 1.00, 30 s left"
    assert train(11).startswith("epoch 3/4, ")


def test_the_figure_is_that_of_the_images_so_far(train):
    assert train(10, 0.5).startswith("epoch 2/4, train accuracy 0.50, ")


def test_the_first_steps_tell_nothing_of_the_time_left(train):
    assert train(2) == "epoch 1/4, train accuracy 1.00"


def test_a_part_of_an_epoch_counts_as_one(train):
    assert train(10, epochs=0.5).startswith("epoch 1/1, ")


def test_a_training_that_has_ended_is_evaluated(train):
    assert train(20) == "epoch 4/4, train accuracy 1.00, evaluating"
