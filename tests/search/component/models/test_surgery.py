import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitsearch.models.surgery import (
    head_columns,
    keep_columns,
    keep_norm_channels,
    keep_rows,
    redraw_zero_norms,
    unfused_attention,
)


@given(st.lists(st.integers(0, 11), unique=True, min_size=1), st.integers(1, 8))
def test_head_columns_are_whole_heads(heads, head_dim):
    columns = head_columns(heads, head_dim)
    assert len(columns) == len(heads) * head_dim
    assert {column // head_dim for column in columns} == set(heads)


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(5, 4, 1)])
def test_rows_then_columns(layer):
    weight, bias = layer.weight.detach().flatten(1).clone(), layer.bias.detach().clone()
    keep_rows(layer, (0, 3))
    keep_columns(layer, (1, 2, 4))
    assert torch.equal(layer.weight.flatten(1), weight[[0, 3]][:, [1, 2, 4]])
    assert torch.equal(layer.bias, bias[[0, 3]])
    sizes = (
        (layer.out_features, layer.in_features)
        if isinstance(layer, nn.Linear)
        else (
            layer.out_channels,
            layer.in_channels,
        )
    )
    assert sizes == (2, 3)


def test_zero_norms_are_redrawn():
    model = timm.create_model("levit_128s", num_classes=4)
    assert redraw_zero_norms(model) == 20
    assert redraw_zero_norms(model) == 0


def test_attention_is_fused_again_afterwards():
    model = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32)
    with unfused_attention(model):
        assert not any(block.attn.fused_attn for block in model.blocks)
    assert all(block.attn.fused_attn for block in model.blocks)


def test_cutting_a_batch_norm_cuts_its_statistics():
    norm = nn.BatchNorm2d(4)
    for number, values in enumerate((norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var), 1):
        values.copy_(torch.arange(1.0, 5.0) * number)
    norm.eval()
    images = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = norm(images)[:, [1, 3]]
    keep_norm_channels(norm, [1, 3])
    assert torch.equal(norm(images[:, [1, 3]]), expected)
    assert norm.num_features == 2
