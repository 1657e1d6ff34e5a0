import pytest
import timm
import torch
from safetensors.torch import save_file

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families import BackboneTestCase, VariantTestCase

TINY = "swin_tiny_patch4_window7_224"
TABLE = "relative_position_bias_table"
FEW_BLOCKS = {"depths": (2, 2, 1, 1), "embed_dim": 48}


class TestSwin(BackboneTestCase):
    spec = ModelSpec(TINY, "none", ImageSize.square(64), 10)
    arguments = FEW_BLOCKS
    other_resolution = ImageSize.square(96)
    unsupported = (
        ("resolution", ImageSize.square(100)),
        ("resolution", ImageSize.square(32)),
        ("window_size", 1),
        ("window_size@64", 3),
        ("token_pruning_ratio", 0.5),
        ("distillation", "token"),
        ("weights", "builtin"),
    )


class TestSwinS3(VariantTestCase):
    """Windows that differ between the stages."""

    spec = ModelSpec("swin_s3_tiny_224.ms_in1k", "none", ImageSize.square(64), 7)
    arguments = FEW_BLOCKS
    other_resolution = ImageSize.square(96)
    unsupported = (("resolution", ImageSize.square(80)), ("window_size@64", 5))


def build(resolution, weights="none"):
    return backbones.find(TINY).build(ModelSpec(TINY, weights, ImageSize.of(resolution), 10)).model


def unbuilt(name, resolution):
    """The model of the family on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return backbones.find(name).recipe(name, ImageSize.of(resolution)).create()


def windows(model):
    return [(block.window_size, block.shift_size) for stage in model.layers for block in stage.blocks]


def test_the_requested_heads_are_kept():
    model = build(64)
    attention = model.layers[1].blocks[1].attn
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    backbones.find(TINY).slice_heads(model, 3, (1, 4))
    assert attention.num_heads == 2
    assert torch.equal(attention.relative_position_bias_table, before[TABLE][:, [1, 4]])
    for part in ("weight", "bias"):
        rows = before[f"qkv.{part}"].unflatten(0, (3, 6, 32))[:, [1, 4]].flatten(0, 2)
        assert torch.equal(getattr(attention.qkv, part), rows)
    columns = before["proj.weight"].unflatten(1, (6, 32))[:, [1, 4]].flatten(1)
    assert torch.equal(attention.proj.weight, columns)


@pytest.mark.parametrize("name", [TINY, "swin_s3_small_224", "swin_base_patch4_window12_384"])
@pytest.mark.long
def test_windows_are_those_of_set_input_size_in_timm(name):
    with torch.device("meta"):
        resized = timm.create_model(name)
    resized.set_input_size((160, 160))
    assert windows(unbuilt(name, 160)) == windows(resized)


def test_windows_that_fit_cost_less_than_those_of_the_weights():
    image = torch.zeros(1, 3, 192, 192, device="meta")
    with torch.device("meta"):
        padded = timm.create_model(TINY, img_size=192)
    assert macs.count(unbuilt(TINY, 192), image)[0] < 0.95 * macs.count(padded, image)[0]


@pytest.mark.long
def test_every_variant_accepts_multiples_of_32_from_64_on():
    for name in backbones.find(TINY).variants():
        taken = [
            size
            for size in range(16, 300, 16)
            if backbones.supports(name, "resolution", ImageSize.square(size)) is None
        ]
        assert taken == list(range(64, 300, 32)), name


def test_the_reason_names_the_nearest_valid_sizes():
    reason = backbones.supports(TINY, "resolution", ImageSize.square(200))
    assert "do not divide the maps of swin_tiny_patch4_window7_224 at 200 pixels" in reason
    assert "(the nearest: 192 and 224)" in reason
    assert "multiples of 32 from 64 on (the nearest: 64)" in backbones.supports(
        TINY, "resolution", ImageSize.square(32)
    )


def test_bias_tables_are_resampled_about_their_centre(tmp_path):
    model = build(64)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    tables = [name for name in state if name.endswith(TABLE)]
    state[tables[0]] = torch.full((9, 3), 0.25)
    save_file(state, tmp_path / "weights")
    resampled = build(128, f"file:{tmp_path / 'weights'}").state_dict()
    assert torch.allclose(resampled[tables[0]], torch.full((49, 3), 0.25), atol=1e-6)
    for name in tables:
        assert resampled[name].shape == (49, state[name].shape[1])
        assert torch.allclose(resampled[name][24], state[name][4], atol=1e-6)
    assert torch.equal(build(64, f"file:{tmp_path / 'weights'}").state_dict()[tables[1]], state[tables[1]])
