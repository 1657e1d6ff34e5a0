"""One timm name of each structure that no other test of its family builds is exported and agrees with its runtime.

tools/try_exports.py finds the structures; with `--all` it tries every name.
"""

from __future__ import annotations

import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs
from vitsearch.core.image_size import ImageSize
from vitsearch.export import deploy
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.surgery import raise_layer_scales
from vitsearch.testing.families.subject import smaller_models

PLAIN_VITS = {
    "aimv2_large_patch14_224": 56,
    "beit3_base_patch16_224": 32,
    "flexivit_small": 32,
    "test_vit2": 32,
    "test_vit3": 32,
    "test_vit4": 32,
    "vit_base_patch14_reg1_tipsv2": 56,
    "vit_base_patch16_clip_quickgelu_224": 32,
    "vit_base_patch16_radio_v3": 32,
    "vit_base_patch16_reg4_gap_256": 32,
    "vit_base_patch16_rpn_224": 32,
    "vit_base_patch16_siglip_224": 32,
    "vit_base_patch16_siglip_gap_224": 32,
    "vit_base_patch16_xp_224": 32,
    "vit_base_patch32_siglip_256": 64,
    "vit_base_patch32_siglip_gap_256": 64,
    "vit_dpwee_patch16_reg1_gap_256": 32,
    "vit_dwee_patch16_reg1_gap_256": 32,
    "vit_little_patch16_reg4_gap_256": 32,
    "vit_medium_patch16_gap_256": 32,
    "vit_pwee_patch16_reg1_gap_256": 32,
    "vit_small_patch14_dinov2": 56,
    "vit_small_patch14_reg4_dinov2": 56,
    "vit_small_patch16_18x2_224": 32,
    "vit_so150m_patch16_reg4_gap_256": 32,
    "vit_so150m_patch16_reg4_map_256": 32,
    "vit_so400m_patch16_radio_v4": 32,
    "vit_wee_patch16_reg1_gap_256": 32,
}
"""Name -> pixels, of which each makes at least two patches a side."""
ONE_NARROW_BLOCK = {"depth": 1, "embed_dim": 128, "num_heads": 2}


IN_EACH_RUN = {
    "aimv2_large_patch14_224",
    "test_vit3",
    "vit_base_patch16_rpn_224",
    "vit_base_patch16_xp_224",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_small_patch14_reg4_dinov2",
    "vit_so150m_patch16_reg4_map_256",
}
"""Norms, pooling, registers and blocks that differ most; the others are long tests."""


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        pytest.param(name, pixels, marks=() if name in IN_EACH_RUN else pytest.mark.long)
        for name, pixels in PLAIN_VITS.items()
    ],
)
def test_a_plain_vit_of_any_structure_is_exported_and_counted(name, pixels, tmp_path):
    assert backbones.supports(name, "quantization", "fp32") is None
    family = backbones.find(name)
    with smaller_models(name, ONE_NARROW_BLOCK):
        model = family.build(ModelSpec(name, "none", ImageSize.square(pixels), 10)).model
    raise_layer_scales(model)
    ships = deploy.deployed(model, family, (1, 3, pixels, pixels))
    assert write_onnx(ships, (1, 3, pixels, pixels), tmp_path / "model.onnx").parity_rel <= 1e-5
    assert min(macs.count(ships, torch.zeros(1, 3, pixels, pixels))) > 0
