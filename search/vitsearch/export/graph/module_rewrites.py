"""Modules as they are exported: the same numbers in fewer nodes than their own `forward` gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast

import torch
from timm.models.efficientvit_mit import LiteMLA
from torch import nn


@contextmanager
def export_forms(model: nn.Module) -> Iterator[None]:
    """Compute the modules that have such a form by it, inside this context."""
    changed = [module for module in model.modules() if type(module) is LiteMLA]
    for module in changed:
        module.forward = MethodType(_linear_attention, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _linear_attention(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """EfficientViT's attention (Cai et al. 2023): `sum_j v_j (k_j . q_i) / (sum_j k_j . q_i + eps)`, no softmax.

    Tokens stay along the last axis, where convolutions put them, so that nothing is transposed before or after. The
    products are taken in the cheaper order: the tokens' (n x n) when they are fewer than channels of a head, else the
    channels' (d x d).
    """
    batch, _, height, width = x.shape
    tokens, dim = int(height * width), attention.dim
    qkv = attention.qkv(x)
    scales = torch.cat([qkv, *(aggregate(qkv) for aggregate in attention.aggreg)], dim=1)
    q, k, v = torch.split(scales.reshape(batch, -1, 3 * dim, tokens), dim, dim=2)
    q, k = attention.kernel_func(q), attention.kernel_func(k)
    if tokens <= dim:
        weights = q.transpose(-1, -2) @ k
        out = v @ (weights / (weights.sum(-1, keepdim=True) + attention.eps)).transpose(-1, -2)
    else:
        k = k.transpose(-1, -2)
        out = (v @ k) @ q / (k.sum(-2, keepdim=True) @ q + attention.eps)
    return cast(torch.Tensor, attention.proj(out.reshape(batch, -1, height, width)))
