"""Ridge regression of a layer's error on its inputs: the change of weights that removes the error."""

from __future__ import annotations

import numpy as np
import torch

from vitsearch.compress.matrices import Matrix
from vitsearch.compress.one_thread import one_thread
from vitsearch.errors import StageError

ROWS = 8192
"""Number of positions that a fit uses, drawn from all positions of all images."""


def drawn(rows: torch.Tensor) -> torch.Tensor:
    """At most `ROWS` of `rows` (n, columns), the same indices for every tensor of equal length."""
    if len(rows) <= ROWS:
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]
    return rows[chosen.to(rows.device)]


@one_thread()
def fit(inputs: torch.Tensor, error: torch.Tensor, ridge: float, centred: bool) -> tuple[Matrix, Matrix]:
    """Regress `error` (rows, outputs) on `inputs` (rows, columns), with a ridge that pulls the change to zero.

    Returns the change of the weights (outputs, columns) and the constant (outputs,), which is zero unless `centred`.
    `StageError` when the result is not finite.
    """
    mean_input, mean_error = inputs.mean(0), error.mean(0)
    if centred:
        inputs, error = inputs - mean_input, error - mean_error
    moments, cross = ((values.T @ inputs / len(inputs)).cpu().double().numpy() for values in (inputs, error))
    pull = ridge * float(np.mean(np.diag(moments)))
    try:
        change = np.linalg.solve(moments + pull * np.eye(len(moments)), cross.T).T
    except np.linalg.LinAlgError:  # constant inputs: nothing to fit
        change = np.zeros_like(cross)
    if not np.isfinite(change).all():
        raise StageError("refit", "not_finite", "the fit gives NaN or infinity")
    constant = mean_error.cpu().double().numpy() - change @ mean_input.cpu().double().numpy()
    return change, constant if centred else np.zeros_like(constant)
