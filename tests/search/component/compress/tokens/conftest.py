"""A ViT of four narrow blocks on 16 patches, and plans that leave fewer tokens."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from vitsearch.compress import tokens
from vitsearch.core.image_size import ImageSize
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.core.token_counts import tokens_left

DEPTH, PATCHES = 4, 16


@pytest.fixture
def vit():
    def made(**arguments):
        torch.manual_seed(0)
        size = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": DEPTH, "num_heads": 2, "num_classes": 5}
        model = VisionTransformer(**size | arguments).eval()
        with torch.no_grad():  # new weights are so small that all tokens would be nearly equal
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
        return model

    return made


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pruned():
    def done(model, method, ratio=0.5, behind=()):
        left = tokens_left(method, ratio, behind, DEPTH, PATCHES, int(model.num_prefix_tokens))
        blocks = tuple(ResolvedBlock((0, 1), tuple(range(128))) for _ in range(DEPTH))
        tokens.apply(model, ResolvedPlan("any", ImageSize.square(16), None, blocks, left, method))
        return model

    return done
