import pytest
import torch
from torchvision.models import VisionTransformer

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs
from vitsearch.core.image_size import ImageSize


def by_hand(tokens=50, width=192, depth=6, ffn=768, classes=10):
    attention = 2 * tokens * tokens * width
    linear = tokens * width * (3 * width + width + 2 * ffn)
    return (depth * (attention + linear) + 49 * 16 * width + width * classes) / 1e6


@pytest.mark.long
def test_attention_counts_and_the_batch_size_does_not_matter(base):
    model = base.model()
    macs_m, params_m = macs.count(model, torch.zeros(1, 1, 28, 28))
    assert macs_m == pytest.approx(by_hand(), rel=1e-6)
    assert params_m == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6)
    assert macs.count(model, torch.zeros(3, 1, 28, 28))[0] == pytest.approx(macs_m)


def test_the_attention_of_torch_counts_in_inference():
    """Its layers, and the fused kernel that they call, are single operators there."""
    width, tokens, hidden = 32, 16 + 1, 64
    model = VisionTransformer(32, 8, 1, 2, width, hidden, num_classes=10).eval()
    linear = tokens * width * (4 * width + 2 * hidden) + 16 * 3 * 64 * width + width * 10
    assert macs.count(model, torch.zeros(1, 3, 32, 32))[0] == pytest.approx((linear + 2 * tokens**2 * width) / 1e6)


def test_attention_pooling_counts():
    spec = ModelSpec("test_vit3", "none", ImageSize.square(32), 10)
    model = backbones.find(spec.backbone).build(spec).model
    whole, params_m = macs.count(model, torch.zeros(1, 3, 32, 32))
    assert params_m == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6)
    assert all(parameter.requires_grad for parameter in model.parameters())
    pool = model.attn_pool
    model.attn_pool, model.global_pool = None, "avg"
    width, tokens = pool.q.in_features, 4 + 1
    linear = width * width * (1 + 2 * tokens + 1) + 2 * width * pool.mlp.fc1.out_features
    assert whole - macs.count(model, torch.zeros(1, 3, 32, 32))[0] == pytest.approx((linear + 2 * tokens * width) / 1e6)
