"""Logits and accuracy of a model in torch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch

from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, load
from vitsearch.training import inference


def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, **sizes)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_prediction_keeps_order_mode_and_weights():
    data = load(DataSpec("builtin:fashion-mnist-14k"))
    model = tiny().train()
    before = weights(copy.deepcopy(model))
    whole = inference.predict_logits(
        model, data.validation.images[:50], ImageSize.square(28), Preprocessing(data.mean, data.std)
    )
    parts = inference.predict_logits(
        model, data.validation.images[:50], ImageSize.square(28), Preprocessing(data.mean, data.std), batch_size=7
    )
    assert model.training
    assert torch.equal(weights(model), before)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    rough = inference.predict_logits(
        model, data.validation.images[:50], ImageSize.square(28), Preprocessing(data.mean, data.std), precision="bf16"
    )
    assert 0 < np.abs(rough - whole).max() < 0.1


def test_accuracy_is_the_share_of_correct_rows():
    logits = np.array([[1, 2], [3, 0], [0, 1]], dtype=np.float32)
    assert inference.accuracy(logits, np.array([1, 0, 0])) == pytest.approx(2 / 3)
