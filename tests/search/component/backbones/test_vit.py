import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import scores
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.testing.families import BackboneTestCase, FittingTests, VariantTestCase


class TestBuiltinBase(BackboneTestCase):
    spec = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)
    other_resolution = ImageSize.square(20)
    unsupported = (
        ("resolution", ImageSize.square(30)),
        ("window_size", 7),
        ("token_pruning_at", (1, 5)),
        ("distillation", "token"),
        ("weights", "hub"),
        ("weights", "file:/nowhere/at.all"),
    )


class TestDeiT(VariantTestCase):
    spec = ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(64), 10)
    arguments = {"depth": 2}
    other_resolution = ImageSize.square(48)
    unsupported = (
        ("resolution", ImageSize.square(100)),
        ("window_size", 7),
        ("distillation", "token"),
        ("weights", "builtin"),
    )


class TestDistilledDeiT(BackboneTestCase):
    spec = ModelSpec("deit_tiny_distilled_patch16_224.fb_in1k", "none", ImageSize.square(64), 7)
    arguments = {"depth": 4}
    other_resolution = ImageSize.square(32)
    unsupported = (("resolution", ImageSize.square(8)), ("window_size", 4))

    def test_has_a_distillation_token(self):
        assert backbones.supports(self.spec.backbone, "distillation", "token") is None
        _, block_structure = self._model()
        assert (block_structure.tokens, block_structure.prefix_tokens) == (16 + 2, 2)


class TestLayerScale(VariantTestCase, FittingTests):
    """DeiT-III: layer scale, position table without the class token."""

    spec = ModelSpec("deit3_small_patch16_224", "none", ImageSize.square(32), 10)
    arguments = {"depth": 2, "embed_dim": 192, "num_heads": 3}
    other_resolution = ImageSize.square(64)
    unsupported = (("window_size", 4),)


class TestAttentionPooling(VariantTestCase):
    spec = ModelSpec("test_vit3", "none", ImageSize.square(32), 10)
    arguments = {"depth": 2}
    other_resolution = ImageSize.square(48)
    unsupported = (("embed_pruning_ratio", 0.25), ("window_size", 4))


class TestRMSNorm(VariantTestCase):
    """Norms without a mean, in the stream and of queries and keys."""

    spec = ModelSpec("test_vit4", "none", ImageSize.square(32), 10)
    arguments = {"depth": 2}
    other_resolution = ImageSize.square(48)
    unsupported = (("embed_pruning_ratio", 0.25), ("window_size", 4))


@pytest.mark.parametrize(
    ("name", "knob"),
    [("vit_giant_patch14_dinov2", "ffn_pruning_ratio"), ("vit_base_patch16_xp_224", "head_pruning_ratio")],
)
def test_blocks_of_another_kind_cannot_be_cut(name, knob):
    assert backbones.supports(name, knob, 0.0) is None
    assert "cannot be removed" in backbones.supports(name, knob, 0.5)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "vit_little_patch16_reg4_gap_256"])
def test_cutting_the_stream_cuts_all_tokens_and_tables(name):
    """Also distillation tokens, registers, a norm behind the pooling, and layer scales."""
    family, spec = backbones.find(name), ModelSpec(name, "none", ImageSize.square(32), 10)
    model = family.build(spec).model
    assert backbones.supports(name, "embed_pruning_ratio", 0.5) is None
    family.slice_stream(model, tuple(range(0, model.embed_dim, 2)))
    half = family.block_structure(model, spec).embed_dim
    tokens = model.eval().forward_features(torch.zeros(1, 3, 32, 32))
    assert tokens.shape[2] == half == model.num_features
    assert all(half in value.shape for name, value in model.named_parameters() if name.endswith(("token", "gamma")))


@pytest.mark.parametrize("name", ["vit_base_patch16_xp_224", "vit_base_patch16_siglip_224"])
def test_streams_of_another_kind_cannot_be_cut(name):
    assert "at its residual stream" in backbones.supports(name, "embed_pruning_ratio", 0.25)
    family = backbones.find(name)
    with pytest.raises(PlanError, match="at its residual stream"):
        family.slice_stream(family.unbuilt(name), range(16))


@pytest.mark.parametrize(
    ("name", "knob", "value", "reason"),
    [
        ("vit_base_patch16_xp_224", "token_pruning_ratio", 0.3, "has blocks that are not timm's plain ones"),
        ("vit_base_patch16_gap_224", "token_pruning_method", "tome", "classifies by the mean of all tokens"),
        ("deit_tiny_patch16_224", "token_pruning_at", (3, 11), "after blocks 0 to 10, not [3, 11]"),
    ],
)
def test_token_pruning_is_refused_with_a_reason(name, knob, value, reason):
    assert reason in backbones.supports(name, knob, value)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("vit_base_patch16_gap_224", "evit"),
        ("deit_tiny_distilled_patch16_224", "tome"),
        ("vit_little_patch16_reg4_gap_256", "topk"),
    ],
)
def test_token_pruning_is_supported(name, method):
    for knob, value in (("token_pruning_ratio", 0.3), ("token_pruning_method", method), ("token_pruning_at", (3, 6))):
        assert backbones.supports(name, knob, value) is None


def test_the_reason_names_the_nearest_valid_sizes():
    reason = backbones.supports("deit_tiny_patch16_224", "resolution", ImageSize.square(200))
    assert reason.startswith("200 pixels are not a multiple of the patch size 16")
    assert "(nearest: 192 and 208)" in reason


@pytest.mark.parametrize("precision", ["fp32", "int8_weights"])
def test_a_model_too_large_for_an_onnx_file_is_refused(precision):
    reason = backbones.supports("vit_huge_patch14_224", "quantization", precision)
    assert reason == (
        "vit_huge_patch14_224 cannot be exported: its weights take 2.5 GB in fp32, an ONNX file at most 2.1 GB"
    )
    assert backbones.supports("vit_so400m_patch14_siglip_224", "quantization", precision) is None


def test_build_refuses_what_supports_refuses():
    family = backbones.find("deit_tiny_patch16_224")
    with pytest.raises(PlanError, match="multiple of the patch size 16"):
        family.build(ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(50), 10))


def test_slicing_to_no_head_is_refused():
    family = backbones.find("vit_fmnist_p4")
    model = family.build(ModelSpec("vit_fmnist_p4", "none", ImageSize.square(28), 10, 1)).model
    with pytest.raises(PlanError, match="cannot keep heads"):
        family.slice_heads(model, 0, ())


def test_the_requested_heads_are_kept():
    family = backbones.find("vit_fmnist_p4")
    model = family.build(ModelSpec("vit_fmnist_p4", "none", ImageSize.square(28), 10, 1)).model
    attention = model.blocks[2].attn
    qkv, proj = attention.qkv.weight.clone(), attention.proj.weight.clone()
    family.slice_heads(model, 2, (1, 4))
    assert torch.equal(attention.proj.weight, torch.cat([proj[:, 32:64], proj[:, 128:160]], 1))
    values = qkv.reshape(3, 6, 32, 192)[:, [1, 4]].reshape(-1, 192)
    assert torch.equal(attention.qkv.weight, values)


def test_blocks_of_a_single_layer_are_not_cut_and_have_no_scores():
    """One layer makes queries, keys, values and neurons, so nothing of it can be cut; collecting scores still works."""
    spec = ModelSpec("vit_pwee_patch16_reg1_gap_256", "none", ImageSize.square(32), 10)
    for knob in ("head_pruning_ratio", "ffn_pruning_ratio"):
        assert backbones.supports(spec.backbone, knob, 0.5).startswith(spec.backbone)
    family = backbones.find(spec.backbone)
    collected = scores.collect(family.build(spec).model, family, torch.zeros(1, 3, 32, 32), torch.tensor([0]))
    assert {(block.heads, block.ffn) for block in collected.blocks} == {(None, None)}
