"""The moving average of the weights of a training, at the cost of one pass over the weights for each step.

Under a learning rate that decays, the average over the last steps is about as good as the last weights; where a
training is short or noisy it is better, so a rung keeps the better of the two (`benchmarks/recipes.py`).
"""

from __future__ import annotations

import torch
from torch import nn

State = dict[str, torch.Tensor]
SHARE = 0.1
"""Steps that the average reaches back, as a share of the training."""


def copy_of(model: nn.Module) -> State:
    """The state of `model` as it is now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


class Average:
    """An exponential moving average of the state of `model`, from its state now.

    It reaches back over a `SHARE` of `steps`, but while fewer steps were taken it is their plain mean, without
    the start. Numbers that are no floats, such as counts of batches, are those of the last step.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        self._most = max(steps * SHARE, 1.0)
        self._updates = 0
        self._state = copy_of(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self._updates += 1
        share = 1.0 / min(self._updates, self._most)
        for name, value in model.state_dict().items():
            mean = self._state[name]
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def take_up(self, state: State, updates: int) -> None:
        """Continue as the average of this number of steps."""
        self._updates = updates
        for name, value in state.items():
            self._state[name].copy_(value)

    def state(self) -> State:
        return self._state
