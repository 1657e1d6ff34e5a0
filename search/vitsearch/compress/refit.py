"""Parallel refit: fit the layers behind a cut in closed form, from statistics of the unpruned base alone.

For a consumer `y = W a + b` (`proj` or `fc2`) that keeps the columns S of its input, with mean mu and centred
covariance C of `a` (R = ridge x mean of C's diagonal):

    W' = (W C_:S + R W_S)(C_SS + R I)^-1,   b' = b + W mu - W' mu_S

The ridge pulls to the weights that were there, so an uncut layer does not change. This is the one-shot correction of
SparseGPT and OBC (Frantar et al. 2022, 2023) for whole columns. W' = W_S would be the mean fold of variance-based
pruning, which loses more. It needs no forward pass and no labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from torch import nn

from vitsearch.compress import matrices
from vitsearch.compress.matrices import Matrix
from vitsearch.compress.one_thread import one_thread
from vitsearch.compress.statistics import Statistics, UnitStatistics
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.errors import StageError
from vitsearch.models.backbone import Backbone

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

RIDGE = 1e-2


@one_thread()
def refit(
    pruned: nn.Module, base: nn.Module, backbone: Backbone, resolved: ResolvedPlan, statistics: Statistics
) -> None:
    """Fit every consumer of `pruned` that lost columns by least squares, in place.

    `base` is the unpruned model that `statistics` were collected from, with its weights. `StageError` when
    the statistics do not fit the model.
    """
    for old, new, norm, kept, seen in _cuts(pruned, base, backbone, resolved, statistics):
        weight = matrices.weight(old)
        if seen is None or len(seen.mean) != weight.shape[1]:
            columns = 0 if seen is None else len(seen.mean)
            wrong = f"statistics of {columns} columns for a layer of {weight.shape[1]}"
            raise StageError("refit", "mismatch", wrong)
        mean, moments = seen.mean.astype(np.float64), seen.covariance.astype(np.float64)
        centred = matrices.has_constant(new, norm)
        fitted = least_squares(weight, moments if centred else moments + np.outer(mean, mean), kept)
        if not np.isfinite(fitted).all():
            raise StageError("refit", "not_finite", "the fit gives NaN or infinity")
        matrices.set_weight(new, fitted)
        if centred:
            matrices.add_constant(new, norm, weight @ mean - fitted @ mean[kept])


def least_squares(weight: Matrix, moments: Matrix, kept: list[int], ridge: float = RIDGE) -> Matrix:
    """W' (outputs, kept) whose outputs come nearest to those of `weight`, for second `moments` (inputs, inputs)."""
    pull = ridge * float(np.mean(np.diag(moments)))
    left = moments[np.ix_(kept, kept)] + pull * np.eye(len(kept))
    right = weight @ moments[:, kept] + pull * weight[:, kept]
    try:
        return np.asarray(np.linalg.solve(left, right.T).T)
    except np.linalg.LinAlgError:  # constant inputs: nothing to fit
        return weight[:, kept]


def _cuts(
    pruned: nn.Module, base: nn.Module, backbone: Backbone, resolved: ResolvedPlan, statistics: Statistics
) -> Iterator[tuple[Layer, Layer, nn.Module | None, list[int], UnitStatistics | None]]:
    """Each consumer that lost columns and can be fitted: the old layer, the cut one, the norm behind it, the columns
    that stay, the statistics."""
    if len(resolved.blocks) != len(statistics.blocks):
        wrong = f"statistics of {len(statistics.blocks)} blocks, resolved plan of {len(resolved.blocks)}"
        raise StageError("refit", "mismatch", wrong)
    whole, cut = backbone.units(base), backbone.units(pruned)
    for old, new, kept, seen in zip(whole, cut, resolved.blocks, statistics.blocks, strict=True):
        if _is_fitted(old.proj) and new.proj is not None and len(kept.heads) < old.heads:
            yield old.proj, new.proj, new.proj_norm, old.head_columns(kept.heads), seen.heads
        if _is_fitted(old.fc2) and new.fc2 is not None and len(kept.ffn) < old.ffn_width:
            columns = matrices.columns_of(old.fc2, old.ffn_columns(kept.ffn))
            yield old.fc2, new.fc2, new.fc2_norm, columns, seen.ffn


def _is_fitted(layer: Layer | None) -> TypeGuard[Layer]:
    return layer is not None and matrices.can_be_fitted(layer)
