"""Tables of position biases, resampled to another map or window."""

from __future__ import annotations

from timm.layers import resize_rel_pos_bias_table_levit
from torch import nn

from vitsearch.backbones.weights_file import State


def resample_biases(state: State, model: nn.Module) -> State:
    """`state` with its position biases (heads, height x width) interpolated to the maps of `model`.

    For attentions that have one bias for each distance between two tokens (LeViT and its successors). Bicubic, as in
    TinyViT (Wu et al. 2022); timm itself refuses them at another resolution.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return {
        name: resize_rel_pos_bias_table_levit(value.T, wanted[name][::-1]).T.contiguous()
        if name.endswith("attention_biases") and _can_be_resampled(tuple(value.shape), wanted.get(name))
        else value
        for name, value in state.items()
    }


def _can_be_resampled(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> bool:
    """Whether both tables are of square maps and have the same heads."""
    if wanted is None or len(shape) != 2 or shape[0] != wanted[0]:
        return False
    return all(round(size**0.5) ** 2 == size for size in (shape[1], wanted[1]))
