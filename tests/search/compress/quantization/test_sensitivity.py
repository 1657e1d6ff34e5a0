import copy

import pytest
import torch

from vitsearch.compress.quantization import fake_quant
from vitsearch.compress.quantization.sensitivity import rounding_damage


@pytest.fixture(scope="module")
def images(base):
    return base.calibration[0][:16]


@pytest.fixture(scope="module")
def damage(base, images):
    return rounding_damage(base.model(), images)


def test_every_linear_layer_has_its_damage(damage):
    names = [f"blocks.{i}.{part}" for i in range(6) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert list(damage) == [*names, "head"]
    assert all(0 <= value < 0.1 for value in damage.values())


def test_the_same_images_give_the_same_damage_and_the_model_is_as_it_was(base, images, damage, logits):
    model = base.model()
    assert rounding_damage(model, images) == damage
    assert fake_quant.quantized(model) == []
    assert torch.equal(logits(model, images), logits(base.model(), images))


def test_a_layer_with_outliers_is_found(base, images, damage):
    model = base.model()
    block = model.blocks[3]
    with torch.no_grad():
        block.norm2.weight[:4] *= 300
        block.norm2.bias[:4] *= 300
        block.mlp.fc1.weight[:, :4] /= 300
    found = rounding_damage(copy.deepcopy(model), images)
    assert max(found, key=found.get) == "blocks.3.mlp.fc1"
    assert found["blocks.3.mlp.fc1"] > 10 * damage["blocks.3.mlp.fc1"]
