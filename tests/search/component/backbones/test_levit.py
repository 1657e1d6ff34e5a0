import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resize_rel_pos_bias_table_levit

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.tables import resample_biases
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.errors import WeightsError
from vitsearch.testing.families import BackboneTestCase
from vitsearch.training.fine_tune import TrainingSpec, fine_tune

SMALL = "levit_128s"
FAMILY = backbones.find(SMALL)
FEW_BLOCKS = {"depth": (1, 1, 1), "embed_dim": (64, 96, 128), "num_heads": (4, 6, 8), "key_dim": 16}


class TestLevit(BackboneTestCase):
    spec = ModelSpec("levit_128s.fb_dist_in1k", "none", ImageSize.square(64), 10)
    arguments = FEW_BLOCKS
    other_resolution = ImageSize.square(96)
    unsupported = (
        ("resolution", ImageSize.square(100)),
        ("resolution", ImageSize.square(8)),
        ("window_size", 7),
        ("token_pruning_ratio", 0.5),
        ("weights", "builtin"),
    )


class TestLevitOfConvolutions(BackboneTestCase):
    spec = ModelSpec("levit_conv_128s", "none", ImageSize.square(64), 7)
    arguments = FEW_BLOCKS
    other_resolution = ImageSize.square(96)
    unsupported = (("resolution", ImageSize.square(72)), ("window_size", 4))


def build(resolution, weights="none", classes=10):
    return FAMILY.build(ModelSpec(SMALL, weights, ImageSize.square(resolution), classes)).model


def with_biases(resolution, classes=10):
    """A model with random biases, different for all positions and heads; timm starts them at zero."""
    model, generator = build(resolution, classes=classes), torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if name.endswith("attention_biases"):
            value.data = torch.randn(value.shape, generator=generator)
    return model


def saved(model, path):
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return f"file:{path}"


def biases(model):
    return {name: value for name, value in model.state_dict().items() if name.endswith("attention_biases")}


def test_kept_heads_of_a_block_are_the_ones_asked_for():
    model = with_biases(64)
    attention = model.stages[0].blocks[1].attn
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    FAMILY.slice_heads(model, 1, (0, 3))
    after = attention.state_dict()
    for part in ("linear.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        rows = before[f"qkv.{part}"].unflatten(0, (4, 16 + 16 + 32))[[0, 3]].flatten(0, 1)
        assert torch.equal(after[f"qkv.{part}"], rows), part
    columns = before["proj.ln.linear.weight"].unflatten(1, (4, 32))[:, [0, 3]].flatten(1)
    assert torch.equal(after["proj.ln.linear.weight"], columns)
    assert torch.equal(after["attention_biases"], before["attention_biases"][[0, 3]])
    assert attention.qkv.bn.num_features == attention.qkv.linear.out_features == 2 * 64


def test_the_requested_heads_between_stages_are_kept():
    model = with_biases(64)
    name = FAMILY.units(model)[2].name
    attention = model.stages[1].downsample.attn_downsample
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    FAMILY.slice_heads(model, 2, (5, 6, 7))
    after = attention.state_dict()
    assert name == "stages.1.downsample.attn_downsample.proj.ln.linear"
    for layer, width in (("kv", 16 + 64), ("q.ln", 16)):
        rows = before[f"{layer}.linear.weight"].unflatten(0, (8, width))[5:].flatten(0, 1)
        assert torch.equal(after[f"{layer}.linear.weight"], rows), layer
    columns = before["proj.ln.linear.weight"].unflatten(1, (8, 64))[:, 5:].flatten(1)
    assert torch.equal(after["proj.ln.linear.weight"], columns)
    assert torch.equal(after["attention_biases"], before["attention_biases"][5:])


def test_cached_biases_are_cleared_by_slicing():
    """timm caches the indexed biases of a model in evaluation mode."""
    model, images = with_biases(64), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(images)
        FAMILY.slice_heads(model, 0, (1, 2))
        output = model(images)
        fresh = model.train().eval()(images)
    assert torch.equal(output, fresh)


def test_constant_biases_stay_constant():
    state = {name: torch.full_like(value, 0.5) for name, value in biases(build(64)).items()}
    resampled = resample_biases(state, build(224), ImageSize.square(64), ImageSize.square(224))
    assert {value.shape[1] for value in resampled.values()} == {14 * 14, 7 * 7, 4 * 4}
    assert all(torch.allclose(value, torch.full_like(value, 0.5), atol=1e-6) for value in resampled.values())


def test_biases_of_the_same_size_are_untouched():
    model = with_biases(64)
    assert all(torch.equal(value, biases(model)[name]) for name, value in biases(with_biases(64)).items())
    resampled = resample_biases(model.state_dict(), build(64), ImageSize.square(64), ImageSize.square(64))
    assert all(torch.equal(value, resampled[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("before", "after"), [(96, 224), (224, 80)])
def test_a_file_of_any_resolution_is_read_at_any_other(tmp_path, before, after):
    source = with_biases(before)
    model = build(after, saved(source, tmp_path / "weights"))
    for name, value in biases(source).items():
        shape = biases(model)[name].shape
        assert torch.equal(biases(model)[name], resize_rel_pos_bias_table_levit(value.T, shape[::-1]).T)
    assert torch.equal(
        model.stages[2].blocks[0].mlp.ln1.linear.weight, source.stages[2].blocks[0].mlp.ln1.linear.weight
    )


def test_hub_weights_are_read_at_another_resolution(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--timm--levit_128s.fb_dist_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    source = saved(with_biases(224, classes=1000), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    for resolution in (224, 96):
        built = FAMILY.build(ModelSpec(SMALL, "hub", ImageSize.square(resolution), 10))
        assert built.head_is_new
        body = {name: value for name, value in built.model.state_dict().items() if not name.startswith("head")}
        expected = build(resolution, source, classes=1000).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in body.items())


def test_weights_of_another_variant_are_refused_by_their_shapes(tmp_path):
    path = saved(FAMILY.build(ModelSpec("levit_128", "none", ImageSize.square(64), 10)).model, tmp_path / "weights")
    with pytest.raises(WeightsError, match=r"not hold weights of levit_128s: .*; not of this model: stages\.0\.blocks"):
        build(96, path)


def test_both_classifiers_are_replaced_for_other_classes(tmp_path):
    model = build(64, saved(build(64), tmp_path / "weights"), classes=3)
    assert (model.head.linear.out_features, model.head_dist.linear.out_features) == (3, 3)


def test_a_cut_model_with_two_classifiers_is_fine_tuned():
    model = build(64, classes=2)
    FAMILY.slice_heads(model, 2, (0, 1, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    recipe = Recipe((0, 1), 16, 8, 1e-3, 0.05, 0, 0.0, 1.0, 0)
    before = model.head_dist.linear.weight.clone()
    report = fine_tune(
        model,
        TrainingSpec(
            pixels, np.arange(16) % 2, ImageSize.square(64), Preprocessing((0.5,) * 3, (0.5,) * 3), recipe, epochs=2
        ),
    )
    assert (report.steps, report.images) == (4, 32)
    assert not torch.equal(before, model.head_dist.linear.weight)


@pytest.mark.long
def test_every_variant_accepts_multiples_of_the_stride_of_its_stem():
    for name in FAMILY.variants():
        stride = 8 if name.endswith("_s8") else 16
        taken = [
            size for size in range(4, 260, 4) if backbones.supports(name, "resolution", ImageSize.square(size)) is None
        ]
        assert taken == list(range(stride, 260, stride)), name


def test_the_reason_names_the_nearest_valid_sizes():
    reason = backbones.supports(SMALL, "resolution", ImageSize.square(200))
    assert reason.startswith("200 pixels are not a multiple of the stride 16 of the stem of levit_128s")
    assert "(nearest: 192 and 208)" in reason
