"""A linear change of what a layer reads that takes off an error, with a pull to no change."""

from __future__ import annotations

import numpy as np
import torch

from vitsearch.compress.matrices import Matrix
from vitsearch.errors import StageError

ROWS = 8192
"""Positions that a fit looks at, drawn from all positions of all images."""


def drawn(rows: torch.Tensor) -> torch.Tensor:
    """The same rows of every tensor of as many."""
    if len(rows) <= ROWS:
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]
    return rows[chosen.to(rows.device)]


def fit(inputs: torch.Tensor, error: torch.Tensor, ridge: float, centred: bool) -> tuple[Matrix, Matrix]:
    """The change (outputs, columns) and, where ``centred``, the constant (outputs,), else zeros, that come nearest
    to ``error`` (rows, outputs) from ``inputs`` (rows, columns). :class:`StageError` when not finite."""
    mean_input, mean_error = inputs.mean(0), error.mean(0)
    if centred:
        inputs, error = inputs - mean_input, error - mean_error
    moments, cross = ((values.T @ inputs / len(inputs)).cpu().double().numpy() for values in (inputs, error))
    pull = ridge * float(np.mean(np.diag(moments)))
    try:
        change = np.linalg.solve(moments + pull * np.eye(len(moments)), cross.T).T
    except np.linalg.LinAlgError:  # the inputs were constant: nothing to fit
        change = np.zeros_like(cross)
    if not np.isfinite(change).all():
        raise StageError("refit", "not_finite", "the fit gives NaN or infinity")
    constant = mean_error.cpu().double().numpy() - change @ mean_input.cpu().double().numpy()
    return change, constant if centred else np.zeros_like(constant)
