"""Keep the most attended patch tokens and fuse the others into one (Liang et al., "Not all patches are what
you need", ICLR 2022)."""

from __future__ import annotations

import torch

from vitsearch.compress.tokens.base import DroppingBlock, most, take


class EViTBlock(DroppingBlock):
    """The fused token is `sum a_i x_i` over the dropped tokens, `a` being the attention that they receive. From
    then on it is a patch token like the others."""

    def reduce(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Prefix, kept patches and the fused one: (batch, prefix + kept + 1, channels)."""
        prefix, index = self.layout.prefix, most(attended, self.kept)
        kept, weights = take(x, index + prefix), take(attended.unsqueeze(2), index)
        everything = attended.unsqueeze(1) @ x[:, prefix:]
        fused = (
            everything - weights.transpose(1, 2) @ kept
        )  # equals the sum over the dropped tokens without listing them
        return torch.cat([x[:, :prefix], kept, fused], dim=1)
