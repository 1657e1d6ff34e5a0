"""Kullback-Leibler divergence between the outputs of two models, in nats."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def kl_divergences(base_logits: NDArray[Any], logits: NDArray[Any]) -> NDArray[np.float64]:
    """`KL(softmax(base) || softmax(model))` of each row of logits (n, classes), in nats; 0 for equal softmaxes."""
    base, model = (_log_softmax(values.astype(np.float64)) for values in (base_logits, logits))
    return np.asarray((np.exp(base) * (base - model)).sum(axis=1))


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """`T^2 KL(teacher || student)` of logits (n, classes), mean over n, in nats."""
    nats = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * nats
