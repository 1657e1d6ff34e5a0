"""Swin transformers V2 (Liu et al. 2022): cosine attention in shifted windows, norms behind the branches.

Positions are a continuous function of the distance, computed by a small network with one output for each head, so no
table has to be resampled. A head owns its rows of `qkv` (whose bias is separate: queries and values have one each),
its columns of `proj`, its row of that network, and a scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.models.swin_transformer_v2 import WindowAttention
from torch import nn
from torch.nn import functional

from vitsearch.backbones.plain import slice_qkv
from vitsearch.backbones.swin import SwinFamily, head_dim, named_blocks
from vitsearch.errors import PlanError
from vitsearch.models.backbone import Branch, Built, ModelSpec
from vitsearch.models.surgery import head_columns, keep_of_table, keep_rows

LARGEST_SCALE, LARGEST_BIAS = 100.0, 16.0
"""Limits of the paper: on the scale of a cosine, and on a position bias."""


class SwinV2Family(SwinFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "swinv2"
    modules = ("swin_transformer_v2",)
    attention = WindowAttention

    def build(self, spec: ModelSpec) -> Built:
        """Make timm call `qkv` as a layer and add its bias afterwards, so that hooks on the layer see its input."""
        built = super().build(spec)
        for _, block in named_blocks(built.model):
            cast(Any, block.attn).qkv_bias_separate = True
        return built

    def window_arguments(self, name: str, pixels: int, window: int) -> dict[str, Any]:
        """Distances are measured in units of the model's own window, so that two tokens keep their distance."""
        layers: Any = self.unbuilt(name).layers
        trained = [stage.blocks[0].attn.pretrained_window_size[0] for stage in layers]
        own, native = self.own_windows(name, pixels), self.native_resolution(name)
        measures = tuple(side * pixels // native or mine for side, mine in zip(trained, own, strict=True))
        return super().window_arguments(name, pixels, window) | {"pretrained_window_sizes": measures}

    def branches(self, block: Any) -> tuple[Branch | None, Branch | None]:
        """None: behind the layer norm of a branch, the target of a layer does not follow from the stream."""
        return None, None

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, module = named_blocks(model)[block]
        attention: Any = module.attn
        if not isinstance(attention, WindowAttention) or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        columns = head_columns(kept, head_dim(attention))
        slice_qkv(attention, head_dim(attention), kept)
        if attention.q_bias is not None:
            attention.q_bias = keep_of_table(attention.q_bias, 0, columns)
            attention.v_bias = keep_of_table(attention.v_bias, 0, columns)
            attention.k_bias = attention.k_bias[: len(columns)].clone()  # zeros
        attention.logit_scale = keep_of_table(attention.logit_scale, 0, kept)
        keep_rows(attention.cpb_mlp[2], kept)
        attention.__class__ = FewerHeads


class FewerHeads(WindowAttention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (windows, tokens, channels); `mask`: (windows of an image, tokens, tokens)."""
        windows, tokens, _ = x.shape
        qkv = self.qkv(x)
        if self.q_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, self.k_bias, self.v_bias))
        q, k, v = qkv.reshape(windows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        similarity = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        scale = torch.clamp(self.logit_scale, max=math.log(LARGEST_SCALE)).exp()
        logits = similarity * scale + self._position_bias(tokens)
        if mask is not None:
            of_images = logits.view(-1, len(mask), self.num_heads, tokens, tokens) + mask[None, :, None]
            logits = of_images.view(-1, self.num_heads, tokens, tokens)
        attention = self.attn_drop(self.softmax(logits))
        x = (attention @ v).transpose(1, 2).reshape(windows, tokens, self.proj.in_features)
        output: torch.Tensor = self.proj_drop(self.proj(x))
        return output

    def _position_bias(self, tokens: int) -> torch.Tensor:
        """Position biases (1, heads, tokens, tokens), each between 0 and 16."""
        table = self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads)
        bias = table[self.relative_position_index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1)
        return LARGEST_BIAS * torch.sigmoid(bias).unsqueeze(0)
