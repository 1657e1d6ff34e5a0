"""Weights that are zero and stay zero: a share of all weights, or two of every four (2:4).

    50%, 75%   of all weights, wherever they are
    2:4        of four neighbouring inputs of an output (at one pixel of the kernel, in a convolution) at least two:
               the pattern of sparse tensor cores, which TensorRT looks for with SPARSE_WEIGHTS

The graph does not change, nor does its cost, unless a runtime has sparse kernels; the file compresses better.

`magnitude` keeps the largest weights of each layer. `fit` goes through the layers in the order of the
forward pass, and chooses and corrects weights in closed form (SparseGPT, Frantar and Alistarh 2023). Let U^T U be the
inverse of the second moments of the layer's inputs in the model as sparsified so far, U upper triangular. The weights w
with the smallest (w / U_cc)^2, c being their column, become zero, and the columns behind them take over their
contribution.

A share is spread over the layers by one ranking of all weights, by their contribution to the variance of their layer's
output, which is normalised to 1 for each layer. The same share in each layer would cost convolutional families their
small layers (EfficientViT, 75 %: 0.32 instead of 0.91); ranked by magnitude, a ViT loses more (0.84 instead of 0.89).

Zeros survive a fine-tune because they get no gradient (`frozen_zeros`), int8 because weights are rounded
symmetrically, and the folding of norms because norms scale whole outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import RelPosMlp, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn

from vitsearch.compress import matrices
from vitsearch.compress.one_thread import one_thread
from vitsearch.compress.tokens.dynamicvit import Predictor
from vitsearch.errors import StageError
from vitsearch.models.classifier import classifiers_of

if TYPE_CHECKING:
    from vitsearch.compress.matrices import Matrix
    from vitsearch.models.backbone import Layer

NONE, PATTERN = "none", "2:4"
SHARES: Mapping[str, float] = MappingProxyType({"50%": 0.5, "75%": 0.75, PATTERN: 0.5})
GROUP = 4
LEAST_INPUTS = 16
"""Layers with fewer inputs are stems (pixels) and position tables, where a sparse kernel gains nothing."""
COLUMNS = 64
"""Number of columns whose zeros are chosen at once, before the remaining columns are corrected."""
TOLERANCE = 0.01
RIDGE = 1e-2
IMAGES = 128
"""Number of images for `fit`; twice as many gave no better model (KL on three bases)."""
ROWS = 8192
STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
"""Convolutions that subtract the mean of their weights in each forward: their zeros would not be zeros."""
TABLES = "cpb_mlp"
"""The network with which Swin V2 makes its position biases. Like those of timm's `RelPosMlp`, they are constants
in the exported file."""


def layers(model: nn.Module) -> dict[str, Layer]:
    """The layers that become sparse, by name in the order of the model.

    These are linear layers and convolutions of one group whose number of inputs is a multiple of four. The
    classifier, the networks that choose tokens or make tables of positions, and branches that are merged with an
    identity when the model ships (which would undo their zeros) stay dense.
    """
    left = {module for head in classifiers_of(model) for module in head.modules()}
    for name, module in model.named_modules():
        is_table = isinstance(module, RelPosMlp) or name.rpartition(".")[2] == TABLES
        if is_table or isinstance(module, Predictor) or hasattr(module, "reparameterize"):
            left |= set(module.modules())
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module not in left and _is_matrix(module)
    }


@dataclass(frozen=True)
class Choice:
    """Which weights of a layer become zero: this `share` of all of them, or of every four."""

    share: float
    in_fours: bool

    @property
    def columns(self) -> int:
        """Number of columns that are decided at once."""
        return GROUP if self.in_fours else COLUMNS

    def kept(self, scores: Matrix) -> NDArray[np.bool_]:
        """Mask of the larger `scores` (outputs, columns)."""
        rows = scores.reshape(-1, GROUP) if self.in_fours else scores.reshape(1, -1)
        gone = int(rows.shape[1] * self.share)
        kept = np.ones_like(rows, dtype=bool)
        np.put_along_axis(kept, np.argpartition(rows, gone - 1, axis=1)[:, :gone], False, axis=1)
        return kept.reshape(scores.shape)


def magnitude(model: nn.Module, sparsity: str) -> None:
    """Keep only the largest weights of each layer, in place."""
    for layer in layers(model).values():
        _keep_largest(layer, Choice(SHARES[sparsity], sparsity == PATTERN))


@torch.no_grad()
def fit(model: nn.Module, sparsity: str, images: torch.Tensor) -> None:
    """Sparsify each layer on its inputs for `images` (n, channels, height, width), normalised, in place.

    Each layer sees the outputs of the layers in front of it after they were sparsified. A layer whose `forward` is
    never called keeps its largest weights. `StageError` when a fit is not finite.
    """
    all_layers = list(layers(model).values())
    share, in_fours = SHARES[sparsity], sparsity == PATTERN
    shares = dict.fromkeys(all_layers, share) if in_fours else _shares(model, all_layers, share, images)
    left = set(all_layers)

    def sparsify(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
        left.discard(layer)
        _fit(layer, Choice(shares[layer], in_fours), _drawn(_rows(layer, inputs)))
        again: torch.Tensor = layer.forward(inputs)
        return again

    with _watched(all_layers, sparsify):
        model.eval()(images)
    for layer in left:
        _keep_largest(layer, Choice(shares[layer], in_fours))


@contextmanager
def frozen_zeros(model: nn.Module) -> Iterator[None]:
    """Block the gradients of all weights that are zero now, so that momentum and weight decay do not move them."""
    handles = []
    for layer in layers(model).values():
        gone = layer.weight.detach() == 0
        hook = partial(_without, gone)
        handles.append(layer.weight.register_hook(hook))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without(gone: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return slope.masked_fill(gone.to(slope.device), 0.0)


def verify(model: nn.Module, sparsity: str) -> None:
    """`StageError` `sparsity` when `model` has more weights than `sparsity` leaves."""
    zero = {name: zeros(layer) for name, layer in layers(model).items()}
    share = sum(int(part.sum()) for part in zero.values()) / max(sum(part.size for part in zero.values()), 1)
    if share < SHARES[sparsity] - TOLERANCE:
        raise StageError("sparsity", "lost", f"{share:.0%} of the weights are zero, not {sparsity}")
    full = [name for name, part in zero.items() if int(part.reshape(-1, GROUP).sum(1).min()) < GROUP // 2]
    if sparsity == PATTERN and full:
        raise StageError("sparsity", "lost", f"{full[0]} has more than two weights in four neighbouring inputs")


def zeros(layer: Layer) -> NDArray[np.bool_]:
    """Where the weights are zero: (outputs, pixels of the kernel x inputs)."""
    return np.asarray(_columns(layer) == 0)


# ---- layers as matrices: (outputs, pixels of the kernel x inputs), so that four inputs are neighbours


def _is_matrix(layer: nn.Linear | nn.Conv2d) -> bool:
    inputs = layer.weight.shape[1]
    one_group = isinstance(layer, nn.Linear) or layer.groups == 1
    return one_group and inputs >= LEAST_INPUTS and inputs % GROUP == 0 and not isinstance(layer, STANDARDISED)


def _columns(layer: Layer) -> Matrix:
    values = layer.weight.detach().cpu().double()
    values = values.flatten(2).transpose(1, 2).flatten(1) if isinstance(layer, nn.Conv2d) else values
    return np.asarray(values.numpy())


def _set_columns(layer: Layer, values: Matrix) -> None:
    new = torch.from_numpy(values)
    if isinstance(layer, nn.Conv2d):
        outputs, inputs = layer.weight.shape[:2]
        new = new.reshape(outputs, -1, inputs).transpose(1, 2)
    with torch.no_grad():
        layer.weight.copy_(new.reshape(layer.weight.shape))


def _rows(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """The vectors that `layer` multiplies, one row for each position."""
    if isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1) == layer.stride:
        return matrices.rows(layer, inputs).flatten(0, 1)
    return matrices.unfolded(layer, inputs).transpose(2, 3).flatten(2).flatten(0, 1)


def _drawn(rows: torch.Tensor) -> torch.Tensor:
    if len(rows) <= ROWS:
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]
    return rows[chosen.to(rows.device)]


# ---- which weights stay


def _shares(model: nn.Module, all_layers: Sequence[Layer], share: float, images: torch.Tensor) -> dict[Layer, float]:
    """The share of zeros in each layer, so that `share` of all weights is zero."""
    spread: dict[Layer, Matrix] = {}

    def look(layer: Layer, inputs: torch.Tensor) -> None:
        spread[layer] = _rows(layer, inputs).var(0).cpu().double().numpy()

    with _watched(all_layers, look):
        model.eval()(images)
    adds = [(_columns(layer) ** 2) * spread.get(layer, 1.0) for layer in all_layers]
    parts = [values / max(values.sum(), np.finfo(float).tiny) for values in adds]
    every = np.sort(np.concatenate([part.ravel() for part in parts]))
    least = every[min(int(len(every) * share), len(every) - 1)]
    return {layer: float((part < least).mean()) for layer, part in zip(all_layers, parts, strict=True)}


@contextmanager
def _watched(watched: Sequence[Layer], see: Callable[[Layer, torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """Call `see` with each layer as it runs and its input; a tensor that it returns replaces the output."""
    handles = [
        layer.register_forward_hook(lambda layer, inputs, _: see(cast("Layer", layer), inputs[0])) for layer in watched
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep_largest(layer: Layer, choice: Choice) -> None:
    weight = _columns(layer)
    _set_columns(layer, np.where(choice.kept(weight**2), weight, 0.0))


@one_thread()
def _fit(layer: Layer, choice: Choice, inputs: torch.Tensor) -> None:
    mean = inputs.mean(0)
    centred = inputs - mean if layer.bias is not None else inputs
    moments = (centred.T @ centred / len(inputs)).cpu().double().numpy()
    before = _columns(layer)
    after = sparsified(before, moments, choice)
    if not np.isfinite(after).all():
        raise StageError("sparsity", "not_finite", "the fit gives NaN or infinity")
    _set_columns(layer, after)
    if layer.bias is not None:
        matrices.add_constant(layer, None, (before - after) @ mean.cpu().double().numpy())


def sparsified(weight: Matrix, moments: Matrix, choice: Choice) -> Matrix:
    """`weight` (outputs, inputs) with the zeros of `choice`, and the other weights corrected for them.

    `moments` (inputs, inputs) are the second moments of the inputs.
    """
    factor = _factor(moments)
    weight, scale = weight.copy(), np.diag(factor)
    for start in range(0, weight.shape[1], COLUMNS):
        stop = min(start + COLUMNS, weight.shape[1])
        errors, kept = np.zeros((len(weight), stop - start)), np.ones((len(weight), stop - start), dtype=bool)
        for column in range(start, stop):
            here = column - start
            if here % choice.columns == 0:
                these = slice(column, min(column + choice.columns, stop))
                kept[:, here : here + choice.columns] = choice.kept((weight[:, these] / scale[these]) ** 2)
            errors[:, here] = np.where(kept[:, here], 0.0, weight[:, column]) / scale[column]
            weight[:, column:stop] -= np.outer(errors[:, here], factor[column, column:stop])
        weight[:, start:stop][~kept] = 0.0
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return weight


def _factor(moments: Matrix) -> Matrix:
    """The upper triangular U of the inverse of `moments`, with a ridge."""
    pull = RIDGE * float(np.mean(np.diag(moments)))
    try:
        return np.asarray(np.linalg.cholesky(np.linalg.inv(moments + pull * np.eye(len(moments)))).T)
    except np.linalg.LinAlgError:  # constant inputs: nothing to correct
        return np.eye(len(moments))
