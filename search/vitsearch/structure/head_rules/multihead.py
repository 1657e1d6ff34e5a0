"""torch's `nn.MultiheadAttention`, in a form whose heads can be cut.

torch's forward gives its weights to one function, so nobody sees what `out_proj` reads, and that function refuses fewer
heads. `with_cut_heads` gives the module a subclass whose forward computes the same and calls `out_proj` as a layer;
names and values of its parameters stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import head_columns, keep_columns, keep_of_table
from vitsearch.structure.head_rules.rule import HeadRule


class PlainMultihead(nn.MultiheadAttention):
    """`nn.MultiheadAttention` for any number of heads."""

    fused_attn = True

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # a hint in torch too, beside the mask
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Arguments and results as torch documents them."""
        if query.ndim == 2:  # one image without an axis for it
            batch_axis = 0 if self.batch_first else 1
            inputs = (values.unsqueeze(batch_axis) for values in (query, key, value))
            padding = None if key_padding_mask is None else key_padding_mask[None]
            output, weights = self(*inputs, padding, need_weights, attn_mask, average_attn_weights)
            return output.squeeze(batch_axis), None if weights is None else weights.squeeze(0)
        q, k, v = (self._of_heads(values) for values in self._projected(query, key, value))
        bias = self._bias(attn_mask, key_padding_mask, q.dtype)
        share = self.dropout if self.training else 0.0
        weights = None
        if need_weights or not self.fused_attn:
            logits = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = (logits if bias is None else logits + bias).softmax(dim=-1)
            weights = functional.dropout(weights, share) if share else weights
            attended = weights @ v
        else:
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=share)
        output = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not need_weights:
            weights = None
        elif weights is not None and average_attn_weights:
            weights = weights.mean(1)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Sequence[torch.Tensor]:
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key and key is value:
            return functional.linear(query, weight, bias).chunk(3, -1)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return [functional.linear(*of_one) for of_one in zip((query, key, value), weight.chunk(3), biases, strict=True)]

    def _of_heads(self, values: torch.Tensor) -> torch.Tensor:
        """(batch, heads, tokens, head_dim)."""
        values = values if self.batch_first else values.transpose(0, 1)
        return torch.unflatten(values, -1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _bias(
        self, attn_mask: torch.Tensor | None, key_padding_mask: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor | None:
        """What the masks add to the logits (batch, heads, tokens, tokens); True in a mask means that nothing goes."""
        total = None
        for mask in (attn_mask, None if key_padding_mask is None else key_padding_mask[:, None, None]):
            if mask is None:
                continue
            if mask.ndim == 3:
                mask = torch.unflatten(mask, 0, (-1, self.num_heads))
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
            total = mask if total is None else total + mask
        return total


PlainMultihead.__name__ = nn.MultiheadAttention.__name__  # by which its author knows it: messages show it


def with_cut_heads(model: nn.Module) -> nn.Module:
    """Let the heads of torch's attentions be cut.

    Args:
        model: It is changed in place.

    Returns:
        The model, which computes the same, but for rounding. Attentions whose keys or values have a width of their own,
        or more tokens than their input, stay torch's.
    """
    for module in model.modules():
        if type(module) is not nn.MultiheadAttention or not module._qkv_same_embed_dim:
            continue
        if module.bias_k is None and not module.add_zero_attn:
            module.__class__ = PlainMultihead
            module._qkv_same_embed_dim = False  # or the layer around it computes it itself, by a fused operator
    return model


def _heads(attention: Any) -> int:
    return int(attention.num_heads) if isinstance(attention, PlainMultihead) else 0


def _keep(attention: Any, kept: Sequence[int]) -> None:
    columns, width = head_columns(kept, attention.head_dim), attention.out_proj.in_features
    rows = [part * width + column for part in range(3) for column in columns]
    attention.in_proj_weight = keep_of_table(attention.in_proj_weight, 0, rows)
    if attention.in_proj_bias is not None:
        attention.in_proj_bias = keep_of_table(attention.in_proj_bias, 0, rows)
    keep_columns(attention.out_proj, columns)
    attention.num_heads = len(kept)


RULES: dict[type[nn.Module], HeadRule] = {nn.MultiheadAttention: HeadRule("out_proj", _heads, _keep)}
