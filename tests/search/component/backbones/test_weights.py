import dataclasses
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import WeightsError
from vitsearch_agent.base.canonical_json import file_digest

BASE = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)


def build(spec):
    return backbones.find(spec.backbone).build(spec)


def saved(model, path):
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return f"file:{path}"


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_builtin_weights_are_the_asset():
    built, asset = build(BASE), load_file(BUILTIN["vit_fmnist_p4"].path())
    assert not built.head_is_new
    assert not built.model.training
    assert same({name: value.float() for name, value in asset.items()}, built.model.state_dict())
    assert backbones.starting_digest(BASE) == file_digest(str(BUILTIN["vit_fmnist_p4"].path()))


def test_the_configuration_does_not_keep_the_weights():
    assert "state_dict" not in build(BASE).model.pretrained_cfg


@pytest.mark.parametrize("resolution", [24, 20])
def test_only_positions_change_with_the_resolution(resolution):
    before = build(BASE).model.state_dict()
    after = build(dataclasses.replace(BASE, resolution=ImageSize.square(resolution))).model.state_dict()
    assert [name for name in before if after[name].shape != before[name].shape] == ["pos_embed"]
    assert after["pos_embed"].shape[1] == (resolution // 4) ** 2 + 1
    assert same({n: v for n, v in before.items() if n != "pos_embed"}, after)
    assert torch.equal(before["pos_embed"][:, :1], after["pos_embed"][:, :1])


def test_a_file_without_suffix_is_read(tmp_path):
    model = build(BASE).model
    spec = dataclasses.replace(BASE, weights=saved(model, tmp_path / "3fa9"))
    assert same(model.state_dict(), build(spec).model.state_dict())
    assert backbones.starting_digest(spec) == file_digest(str(tmp_path / "3fa9"))


def test_a_torch_checkpoint_is_read(tmp_path):
    model = build(BASE).model
    torch.save({"state_dict": model.state_dict()}, tmp_path / "last.pth")
    spec = dataclasses.replace(BASE, weights=f"file:{tmp_path / 'last.pth'}")
    assert same(model.state_dict(), build(spec).model.state_dict())


def test_other_classes_draw_a_new_classifier_from_a_seed():
    spec = dataclasses.replace(BASE, classes=7)
    torch.manual_seed(5)
    outside = torch.get_rng_state()
    first, second = build(spec), build(spec)
    assert torch.equal(outside, torch.get_rng_state())
    assert first.head_is_new
    assert first.model.head.out_features == 7
    assert same(first.model.state_dict(), second.model.state_dict())
    body = {n: v for n, v in build(BASE).model.state_dict().items() if not n.startswith("head.")}
    assert same(body, first.model.state_dict())


def test_grey_weights_average_the_channels_of_colour_images():
    grey, colour = build(BASE), build(dataclasses.replace(BASE, channels=3))
    assert colour.head_is_new
    image = torch.randn(1, 1, 28, 28)
    with torch.inference_mode():
        assert torch.allclose(grey.model(image), colour.model(image.repeat(1, 3, 1, 1)), atol=1e-5)


def test_both_distilled_classifiers_are_new(tmp_path):
    spec = ModelSpec("deit_tiny_distilled_patch16_224", "none", ImageSize.square(32), 10)
    path = saved(build(spec).model, tmp_path / "weights")
    built = build(dataclasses.replace(spec, weights=path, classes=4, resolution=ImageSize.square(48)))
    assert built.head_is_new
    assert (built.model.head.out_features, built.model.head_dist.out_features) == (4, 4)


def test_random_weights_depend_on_the_seed_and_the_name():
    spec = dataclasses.replace(BASE, weights="none")
    assert same(build(spec).model.state_dict(), build(spec).model.state_dict())
    assert build(spec).head_is_new
    other = dataclasses.replace(spec, backbone="deit_tiny_patch16_224")
    assert backbones.starting_digest(spec) != backbones.starting_digest(other)


def test_the_hub_digest_depends_on_the_tag():
    first = ModelSpec("vit_tiny_patch16_224.augreg_in21k", "hub", ImageSize.square(224), 10)
    second = dataclasses.replace(first, backbone="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    default = dataclasses.replace(first, backbone="vit_tiny_patch16_224")
    assert backbones.starting_digest(first) != backbones.starting_digest(second)
    assert backbones.starting_digest(default) == backbones.starting_digest(second)


def test_hub_weights_come_from_the_local_cache_through_timm(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    spec = ModelSpec("deit_tiny_patch16_224", "hub", ImageSize.square(32), 10)
    with pytest.raises(WeightsError, match=r"could not be fetched from timm/deit_tiny_patch16_224.fb_in1k"):
        build(spec)
    folder = tmp_path / "models--timm--deit_tiny_patch16_224.fb_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    source = build(ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(224), 1000)).model
    saved(source, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    built = build(spec)
    assert built.head_is_new
    assert torch.equal(built.model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)


def test_a_missing_file_is_reported():
    with pytest.raises(WeightsError, match=r"there is no file /nowhere/model\.pth"):
        build(dataclasses.replace(BASE, weights="file:/nowhere/model.pth"))


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x10\0\0\0\0\0\0\0{broken"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} holds no weights"):
        build(dataclasses.replace(BASE, weights=f"file:{path}"))


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"head.weight": print}, tmp_path / "weights")
    with pytest.raises(WeightsError, match="holds no weights"):
        build(dataclasses.replace(BASE, weights=f"file:{tmp_path / 'weights'}"))


@pytest.mark.parametrize("classes", [10, 5])
def test_weights_of_another_model_name_the_first_keys(tmp_path, classes):
    path = saved(build(BASE).model, tmp_path / "weights")
    with pytest.raises(WeightsError) as caught:
        build(ModelSpec("deit_tiny_patch16_224", path, ImageSize.square(224), classes, 1))
    message = str(caught.value)
    assert "missing: blocks.6.norm1.weight, blocks.6.norm1.bias, blocks.6.attn.qkv.weight and" in message
    assert "patch_embed.proj.weight (192, 1, 4, 4) instead of (192, 1, 16, 16)" in message


def test_an_unknown_kind_of_weights_is_refused():
    with pytest.raises(WeightsError, match="must be builtin, hub, none or file:PATH"):
        build(dataclasses.replace(BASE, weights="imagenet"))


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"hello world weights", b"\x10\0\0\0\0\0\0\0{broken"])
def test_supports_refuses_a_file_without_weights(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(content)
    assert f"{path} holds no weights" in backbones.supports("vit_fmnist_p4", "weights", f"file:{path}")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_supports_refuses_weights_of_another_model(tmp_path, suffix):
    state, path = load_file(BUILTIN["mobilevit_fmnist"].path()), tmp_path / f"other.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    reason = backbones.supports("vit_fmnist_p4", "weights", f"file:{path}")
    assert f"{path} does not hold weights of vit_fmnist_p4: 0 of its 311 tensors fit, and the model has 78" in reason


def test_supports_accepts_weights_of_the_model(tmp_path):
    for name in ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist"):
        assert backbones.supports(name, "weights", f"file:{BUILTIN[name].path()}") is None
