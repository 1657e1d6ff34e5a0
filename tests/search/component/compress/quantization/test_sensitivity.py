import copy

import pytest
import torch

from vitsearch.compress.quantization import fake_quant
from vitsearch.compress.quantization.sensitivity import rounding_sensitivity
from vitsearch.tasks import CLASSIFICATION


@pytest.fixture(scope="module")
def images(base):
    return base.calibration[0][:16]


@pytest.fixture(scope="module")
def sensitivity(base, images):
    return rounding_sensitivity(base.model(), images, CLASSIFICATION)


@pytest.mark.long
def test_every_linear_layer_has_a_sensitivity(sensitivity):
    names = [f"blocks.{i}.{part}" for i in range(6) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert list(sensitivity) == [*names, "head"]
    assert all(0 <= value < 0.1 for value in sensitivity.values())


@pytest.mark.long
def test_sensitivities_are_reproducible_and_the_model_is_not_changed(base, images, sensitivity, logits):
    model = base.model()
    assert rounding_sensitivity(model, images, CLASSIFICATION) == sensitivity
    assert fake_quant.quantized(model) == []
    assert torch.equal(logits(model, images), logits(base.model(), images))


@pytest.mark.long
def test_a_layer_with_outliers_is_the_most_sensitive(base, images, sensitivity):
    model = base.model()
    block = model.blocks[3]
    with torch.no_grad():
        block.norm2.weight[:4] *= 300
        block.norm2.bias[:4] *= 300
        block.mlp.fc1.weight[:, :4] /= 300
    with_outliers = rounding_sensitivity(copy.deepcopy(model), images, CLASSIFICATION)
    assert max(with_outliers, key=with_outliers.get) == "blocks.3.mlp.fc1"
    assert with_outliers["blocks.3.mlp.fc1"] > 10 * sensitivity["blocks.3.mlp.fc1"]
