"""The exported file computes what was trained, in its own runtime."""

from __future__ import annotations

import torch
from torch import nn

from vitsearch import backbones
from vitsearch.export import deploy
from vitsearch.testing.families.subject import EXPORT_PARITY, TOLERANCE, ExportedModel, Subject


class ShippingTests(Subject):
    """Tests of a cut model on its way to the device."""

    def test_the_deployed_model_gives_what_the_trained_one_gives(self, cut: nn.Module) -> None:
        """Batch norms get statistics worth merging; the trained model is not changed."""
        _draw_norm_statistics(cut)
        before = self._logits(cut)
        ships = deploy.deployed(cut, backbones.find(self.spec.backbone), tuple(self._images().shape))
        scale = float(before.abs().max())
        assert float((self._logits(ships) - before).abs().max()) <= 10 * TOLERANCE * scale
        assert torch.equal(self._logits(cut), before)

    def test_a_cut_model_exports_and_agrees_with_its_runtime(self, exported: ExportedModel) -> None:
        assert exported.report.parity_rel <= EXPORT_PARITY


def _draw_norm_statistics(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
