"""The moving average of weights, on a layer of one weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitsearch.training.average import Average, copy_of


def averaged(steps: int, values: list[float]) -> float:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(100.0)
        average = Average(layer, steps)
        for value in values:
            layer.weight.fill_(value)
            average.update(layer)
    return average.state()["weight"].item()


def test_the_first_steps_have_their_plain_mean_without_the_start():
    assert averaged(100, [1.0, 2.0, 6.0]) == pytest.approx(3.0)


def test_later_steps_count_as_a_tenth_of_the_training_does():
    assert averaged(20, [0.0, 0.0, 1.0]) == pytest.approx(0.5)
    assert averaged(5, [1.0, 7.0]) == 7.0


def test_counts_are_those_of_the_last_step():
    norm = nn.BatchNorm1d(2).train()
    average = Average(norm, 100)
    for _ in range(3):
        norm(torch.randn(4, 2))
        average.update(norm)
    assert average.state()["num_batches_tracked"] == 3
    assert average.state().keys() == norm.state_dict().keys()


def test_a_copy_does_not_change_with_its_model():
    layer = nn.Linear(1, 1)
    before = copy_of(layer)
    with torch.no_grad():
        layer.weight.add_(1.0)
    assert not torch.equal(before["weight"], layer.weight)
