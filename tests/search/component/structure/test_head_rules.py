import copy
from functools import cache

import pytest
import timm
import torch
from timm.layers import Attention
from timm.models.eva import EvaAttention
from torch import nn

from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.surgery import head_columns, unfused_attention
from vitsearch.structure.head_rules import rule_for

SMALL = {"img_size": 64, "depth": 1}
EVA = {"img_size": 56, "depth": 1}
CASES = {
    "eva, fused qkv": ("eva02_tiny_patch14_224", EVA, "EvaAttention"),
    "eva, qkv in three layers": ("eva02_tiny_patch14_224", EVA | {"qkv_fused": False}, "EvaAttention"),
    "eva, own rotations of heads": ("eva02_tiny_patch14_224", EVA | {"rope_type": "mixed"}, "EvaAttention"),
    "dinov3": ("vit_small_patch16_dinov3", {"depth": 1}, "EvaAttention"),
    "own rotations of heads": ("vit_small_patch16_rope_mixed_224", SMALL, "AttentionRope"),
    "pooling by attention": ("test_vit3", {"img_size": 64}, "AttentionPoolLatent"),
    "beit": ("beit_base_patch16_224", SMALL, "Attention"),
    "beit, shared positions": (
        "beit_base_patch16_224",
        SMALL | {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False},
        "Attention",
    ),
    "caformer": ("caformer_s18", {}, "Attention"),
    "davit, windows": ("davit_tiny", {"depths": (1, 1, 1, 1)}, "WindowAttention"),
    "davit, channels": ("davit_tiny", {"depths": (1, 1, 1, 1)}, "ChannelAttention"),
    "davit, channels v2": ("davit_tiny", {"depths": (1, 1, 1, 1), "channel_attn_v2": True}, "ChannelAttentionV2"),
    "xcit": ("xcit_nano_12_p16_224", {"depth": 1}, "XCA"),
    "edgenext": ("edgenext_xx_small", {}, "CrossCovarianceAttn"),
    "cait, class token": ("cait_xxs24_224", SMALL, "ClassAttn"),
    "cait, mixed heads": ("cait_xxs24_224", SMALL, "TalkingHeadAttn"),
    "crossvit": ("crossvit_tiny_240", {"depth": ([1, 1, 0],)}, "CrossAttention"),
    "volo": ("volo_d1_224", {"img_size": 64}, "Attention"),
    "volo, outlook": ("volo_d1_224", {"img_size": 64}, "OutlookAttention"),
    "convit": ("convit_tiny", {"img_size": 64, "depth": 2, "local_up_to_layer": 1}, "MHSA"),
    "convit, gated": ("convit_tiny", {"img_size": 64, "depth": 2, "local_up_to_layer": 1}, "GPSA"),
    "pvt": ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}, "Attention"),
    "pvt, linear": ("pvt_v2_b0", {"depths": (1, 1, 1, 1), "linear": True}, "Attention"),
    "twins, global": ("twins_svt_small", {"depths": (2, 2, 2, 2)}, "GlobalSubSampleAttn"),
    "twins, windows": ("twins_svt_small", {"depths": (2, 2, 2, 2)}, "LocallyGroupedAttn"),
    "gcvit": ("gcvit_xxtiny", {"img_size": 64}, "WindowAttentionGlobal"),
    "gcvit, queries of the image": ("gcvit_xxtiny", {"img_size": 64}, "stages.1.blocks.1.attn"),
    "nextvit": ("nextvit_small", {}, "EfficientAttention"),
    "coatnet": ("coatnet_nano_rw_224", {"img_size": 64}, "Attention2d"),
    "coatnet, network of positions": ("coatnet_rmlp_nano_rw_224", {"img_size": 64}, "Attention2d"),
    "maxvit": ("maxvit_pico_rw_256", {"img_size": 64}, "AttentionCl"),
    "maxvit, other layout": ("maxvit_tiny_tf_224", {"img_size": 64}, "AttentionCl"),
    "mobilenetv4": ("mobilenetv4_hybrid_medium", {}, "MultiQueryAttention2d"),
    "relative positions": ("vit_relpos_small_patch16_224", SMALL, "RelPosAttention"),
    "shared relative positions": ("vit_srelpos_small_patch16_224", SMALL, "RelPosAttention"),
    "swin v2": ("swinv2_tiny_window8_256", {"img_size": 64, "depths": (1, 1, 1, 1)}, "WindowAttention"),
    "swin v2, shifted windows": ("swinv2_tiny_window8_256", {"img_size": 64}, "layers.0.blocks.1.attn"),
    "swin v2 cr, shifted windows": ("swinv2_cr_tiny_224", {"img_size": 64}, "stages.0.blocks.1.attn"),
    "swin v2 cr": ("swinv2_cr_tiny_224", {"img_size": 64, "depths": (1, 1, 1, 1)}, "WindowMultiHeadAttention"),
    "fastvit": ("fastvit_sa12", {}, "Attention"),
    "levit": ("levit_128s", {"img_size": 64}, "Attention"),
    "levit, between stages": ("levit_128s", {"img_size": 64}, "AttentionDownsample"),
    "levit, convolutions": ("levit_conv_128s", {"img_size": 64}, "Attention"),
    "levit, convolutions between stages": ("levit_conv_128s", {"img_size": 64}, "AttentionDownsample"),
    "efficientformer": ("efficientformer_l1", {}, "Attention"),
    "efficientformer v2": ("efficientformerv2_s0", {"img_size": 64}, "Attention2d"),
    "efficientformer v2, between stages": ("efficientformerv2_s0", {"img_size": 64}, "Attention2dDownsample"),
    "tiny vit": ("tiny_vit_5m_224", {}, "Attention"),
}


class Inputs(Exception):
    """Ends a forward that has come far enough."""


@cache
def inputs_of(case):
    """An attention, by its class or its path, whose parameters are all random, and what its model gives to it."""
    name, arguments, kind = CASES[case]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **arguments).train(False)
    if "." in kind:
        attention = model.get_submodule(kind)
    else:
        attention = next(part for part in model.modules() if type(part).__name__ == kind and heads_of(part) > 1)

    def stop(_, args, kwargs):
        raise Inputs(copy.deepcopy(args), copy.deepcopy(kwargs))

    hook = attention.register_forward_pre_hook(stop, with_kwargs=True)
    generator = torch.Generator().manual_seed(0)
    pixels = 224 if name == "efficientformer_l1" else arguments.get("img_size", 64)
    images = torch.randn(2, 3, pixels, pixels, generator=generator)
    with torch.no_grad(), pytest.raises(Inputs) as inputs:
        model(images)
    hook.remove()
    with torch.no_grad():
        for values in attention.parameters():
            values.add_(torch.randn(values.shape, generator=generator) * 0.1)
    (first, *others), named = inputs.value.args
    return attention, (torch.randn(first.shape, generator=generator), *others), named


def heads_of(part):
    rule = rule_for(part)
    return rule.heads(part) if rule else 0


def output(part, args, named):
    with torch.no_grad():
        return part(*args, **named)


def masked(attention, kept):
    """A copy of `attention` whose consumer reads zeros in place of the heads that are not kept."""
    rule, copied = rule_for(attention), copy.deepcopy(attention)
    consumer = copied.get_submodule(rule.consumer)
    width = consumer.weight.shape[1]
    mask = torch.zeros(width)
    mask[head_columns(kept, width // rule.heads(attention))] = 1
    mask = mask.view(-1, 1, 1) if isinstance(consumer, nn.Conv2d) else mask
    consumer.register_forward_pre_hook(lambda _, args: (args[0] * mask, *args[1:]))
    return copied


def cut(attention, kept):
    copied = copy.deepcopy(attention)
    rule_for(copied).keep(copied, kept)
    return copied


def assert_equal(one, other):
    assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())


@pytest.mark.parametrize("case", CASES)
def test_a_cut_attention_equals_the_whole_one_with_masked_heads_also_after_a_second_cut(case):
    attention, args, named = inputs_of(case)
    kept = range(1, heads_of(attention))
    masked_output = output(masked(attention, kept), args, named)
    whole = output(attention, args, named)
    assert float((whole - masked_output).abs().max()) > 1e-2 * float(whole.abs().max())
    once = cut(attention, kept)
    assert rule_for(once) is rule_for(attention)
    assert heads_of(once) == len(kept)
    assert_equal(output(once, args, named), masked_output)
    twice = cut(once, (len(kept) - 1,))
    assert_equal(output(twice, args, named), output(masked(attention, (kept[-1],)), args, named))
    with unfused_attention(once), unfused_attention(attention):
        assert_equal(output(once, args, named), output(masked(attention, kept), args, named))


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_of_a_cut_attention_is_trained(case):
    attention, args, named = inputs_of(case)
    small = cut(attention, (0,))
    small.train()
    whole = sum(values.numel() for values in attention.parameters())
    assert sum(values.numel() for values in small.parameters()) < whole
    small(*args, **named).square().sum().backward()
    assert all(values.grad is not None and values.grad.isfinite().all() for values in small.parameters())


@pytest.mark.parametrize("case", ["eva, fused qkv", "dinov3", "beit"])
def test_a_model_with_cut_heads_is_exported_for_any_batch(case, tmp_path):
    name, arguments, _ = CASES[case]
    model = timm.create_model(name, num_classes=10, **arguments)
    for part in [part for part in model.modules() if heads_of(part)]:
        rule_for(part).keep(part, (0, 2))
    report = write_onnx(
        model, (1, 3, arguments.get("img_size", 64), arguments.get("img_size", 64)), tmp_path / "model.onnx"
    )
    assert report.parity_rel < 1e-4


def test_heads_under_one_norm_are_not_cut():
    model = timm.create_model("eva02_tiny_patch14_224", **EVA, scale_attn_inner=True)
    assert heads_of(model.blocks[0].attn) == 0


def test_a_class_that_the_generic_cut_covers_has_no_rule():
    assert rule_for(Attention(32, 2)) is None


def test_a_subclass_with_a_forward_of_its_own_has_no_rule():
    class Other(EvaAttention):
        def forward(self, x):
            return x

    assert rule_for(EvaAttention(32, 2, scale_norm=False)) is not None
    assert rule_for(Other(32, 2, scale_norm=False)) is None
