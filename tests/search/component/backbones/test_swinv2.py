import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase

TINY = ModelSpec("swinv2_tiny_window8_256", "none", ImageSize.square(64), 10)


class TestSwinV2(BackboneTestCase):
    spec = TINY
    arguments = {"depths": (2, 2, 1, 1), "embed_dim": 48}
    other_resolution = ImageSize.square(96)
    unsupported = (
        ("resolution", ImageSize.square(100)),
        ("resolution", ImageSize.square(32)),
        ("token_pruning_ratio", 0.5),
        ("window_size@96", 4),
        ("distillation", "token"),
    )


def test_a_head_keeps_its_scale_its_biases_and_its_row_of_the_position_network():
    family = backbones.find(TINY.backbone)
    model = family.build(TINY).model
    attention = model.layers[1].blocks[1].attn
    with torch.no_grad():
        for value in (attention.logit_scale, attention.q_bias, attention.v_bias):
            value.normal_(generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    family.slice_heads(model, 3, (1, 4))
    assert torch.equal(attention.logit_scale, before["logit_scale"][[1, 4]])
    assert torch.equal(attention.cpb_mlp[2].weight, before["cpb_mlp.2.weight"][[1, 4]])
    for name in ("q_bias", "v_bias"):
        assert torch.equal(getattr(attention, name), before[name].unflatten(0, (6, 32))[[1, 4]].flatten())
    assert attention.k_bias.shape == attention.q_bias.shape
