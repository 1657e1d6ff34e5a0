"""Finished weights of a user: the preprocessing that the file says, and what a check finds out about it."""

from __future__ import annotations

import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.marks import long
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.builtin import BUILTIN, FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import HALF, IMAGENET, NONE, Preprocessing
from vitsearch.data import DataSpec
from vitsearch.data.validation_sample import validation_sample
from vitsearch.errors import SpaceError
from vitsearch.search.check import check_space, count_models
from vitsearch.workers import pretrained_accuracy

SPACE = """
task:
  data: {{source: builtin:fashion-mnist-14k}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize}}
space:
  backbone: [{backbone}]
  resolution: 28
"""
GREY_IMAGENET = IMAGENET.on_channels(1)
FOLDED = {"halves": HALF, "none": NONE, "imagenet": GREY_IMAGENET}
TEXT = {"halves": "mean: 0.5, std: 0.5", "none": "mean: 0, std: 1", "imagenet": "mean: 0.449, std: 0.226"}


def fold(state: dict[str, torch.Tensor], other: Preprocessing) -> dict[str, torch.Tensor]:
    """The weights of the built-in ViT for images that `other` normalises: exact, as patches are not padded."""
    weight = state["patch_embed.proj.weight"].double()
    (mean,), (std,), (mean_of_other,), (std_of_other,) = FASHION_MNIST.mean, FASHION_MNIST.std, other.mean, other.std
    bias = state["patch_embed.proj.bias"].double() + weight.sum((1, 2, 3)) * (mean_of_other - mean) / std
    folded = {"weight": weight * std_of_other / std, "bias": bias}
    return state | {f"patch_embed.proj.{name}": value.float() for name, value in folded.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of one model, each made for another normalisation; and one that knows nothing."""
    folder = tmp_path_factory.mktemp("weights")
    state = {name: value.float() for name, value in load_file(BUILTIN["vit_fmnist_p4"].path()).items()}
    for name, other in FOLDED.items():
        save_file(fold(state, other), folder / f"{name}.safetensors")
    head = {name: value.roll(3, 0).contiguous() for name, value in state.items() if name.startswith("head.")}
    save_file(state | head, folder / "other_order.safetensors")
    return folder


@pytest.fixture
def check(tmp_path, monkeypatch):
    def run(backbone: str, images: int = 100):
        monkeypatch.setattr("vitsearch.search.check.weights.MOST_IMAGES", images)
        path = tmp_path / "space.yaml"
        path.write_text(SPACE.format(backbone=backbone))
        return check_space(path)

    return run


@pytest.mark.long
@pytest.mark.parametrize("name", ["imagenet", *long("none", "halves")])
def test_weights_have_their_own_accuracy_when_the_file_says_their_preprocessing(weights, name):
    sample = validation_sample(DataSpec("builtin:fashion-mnist-14k"), 200)
    spec = ModelSpec("vit_fmnist_p4", f"file:{weights / name}.safetensors", ImageSize.square(28), 10, 1)
    (folded,) = pretrained_accuracy.judge(spec, (), sample, [FOLDED[name]])
    (own,) = pretrained_accuracy.judge(
        ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1), (), sample, [FASHION_MNIST]
    )
    assert folded.correct == own.correct > 170


@pytest.mark.parametrize("name", ["imagenet", *long("none", "halves")])
def test_a_check_finds_the_normalisation_that_the_file_does_not_say(check, weights, name):
    images = 100 if name == "imagenet" else 500  # the others lose less
    checked = check(f'{{name: vit_fmnist_p4, weights: "file:{weights / name}.safetensors"}}', images)
    (warning,) = [line for line in checked.require().warnings if "vit_fmnist_p4" in line]
    assert f"with '{TEXT[name]}' beside them" in warning
    assert "with mean: 0.286, std: 0.353 classify" in warning


def test_the_keys_of_the_file_silence_the_warning(check, weights):
    valid = check(f'{{name: vit_fmnist_p4, weights: "file:{weights}/none.safetensors", mean: 0, std: 1}}').require()
    assert valid.warnings == ()
    assert valid.inputs() == {"vit_fmnist_p4": "mean: 0, std: 1, crop_share: 1, interpolation: bilinear"}
    assert "input of vit_fmnist_p4: mean: 0, std: 1" in valid.describe()
    assert valid.tried["vit_fmnist_p4"].endswith(" of 100 images right")


def test_a_check_says_which_of_the_states_of_a_file_is_used(check, weights, tmp_path):
    right, wrong = (load_file(weights / f"{name}.safetensors") for name in ("none", "other_order"))
    torch.save({"state_dict": wrong, "state_dict_ema": right}, tmp_path / "last.pth")
    valid = check(f'{{name: vit_fmnist_p4, weights: "file:{tmp_path}/last.pth", mean: 0, std: 1}}').require()
    assert valid.warnings == (
        f"vit_fmnist_p4: {tmp_path}/last.pth holds weights as state_dict_ema and state_dict: state_dict_ema is used; "
        "for others, save them alone in a file",
    )


def test_weights_that_are_trained_first_say_so(check, weights, tmp_path):
    state = load_file(weights / "none.safetensors")
    head = {name: value[:4].contiguous() for name, value in state.items() if name.startswith("head.")}
    save_file(state | head, tmp_path / "other_classes.safetensors")
    valid = check(f'{{name: vit_fmnist_p4, weights: "file:{tmp_path}/other_classes.safetensors"}}').require()
    assert "weights of vit_fmnist_p4: trained on your classes before the search" in valid.describe()


def test_weights_at_chance_are_an_error(check, weights):
    with pytest.raises(SpaceError) as caught:
        check(f'{{name: vit_fmnist_p4, weights: "file:{weights}/other_order.safetensors"}}').require()
    (problem,) = caught.value.problems
    assert "line 6: space.backbone" in problem
    assert "which is chance" in problem
    assert problem.endswith("do they know these classes, in the order of their names?")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "mean: 123.675",
            "123.675 is out of range; allowed: 0 to 1, for pixels in [0, 1]; of pixels up to 255, divide",
        ),
        ("std: 0", "0 is out of range; allowed: 0.0001 to 1"),
        (
            "mean: [0.485, 0.456, 0.406]",
            "mean [0.485, 0.456, 0.406] has 3 numbers, and the images have 1 channel; allowed",
        ),
        ("interpolation: nearest", "bilinear, bicubic"),
        ("crop_share: 1.5", "1.5"),
    ],
)
def test_a_wrong_key_is_one_clear_problem(check, keys, message):
    with pytest.raises(SpaceError) as caught:
        check(f"{{name: vit_fmnist_p4, {keys}}}").require()
    (problem,) = caught.value.problems
    assert message in problem


NETWORK = """
    import torch
    from torch import nn
    from vitsearch.tasks.segmentation.task import Segmentation

    class Net(nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.stem, self.out = nn.Conv2d(1, 8, 4, 4), nn.Conv2d(8, outputs, 1)

    class Map(Net):
        def forward(self, images):
            return self.out(torch.relu(self.stem(images)))

    class Encoder(Net):
        def forward(self, images):
            return nn.functional.normalize(self.out(torch.relu(self.stem(images))).mean((2, 3)))

    class Pixels(Segmentation):
        kind, gives_map = "pixels", False

    def segmenter(classes):
        return Map(classes)

    def encoder():
        return Encoder(12)
"""
OWN_SPACE = """
task: {{kind: {kind}, data: {{source: "builtin:{data}"}}}}
objectives: {{{metric}: maximize, cpu_ms_p50: minimize}}
baseline: {{backbone: ours, weights: "file:{folder}/own.safetensors"}}
space:
  backbone:
    - {{python: "{module}:{entry}", name: ours, weights: "file:{folder}/own.safetensors", mean: 0.5, std: 0.5,
       resolution: 56}}
  resolution: 56
  quantization: fp32
  backend: onnxruntime
"""


@pytest.mark.parametrize(
    ("kind", "entry", "classes", "expected"),
    [
        ("embedding", "encoder", 12, "taken as they are"),
        *long(("Pixels", "segmenter", 11, "taken as they are")),
        *long(("segmentation", "segmenter", 11, "taken as they are")),
        *long(("segmentation", "segmenter", 4, "trained for task segmentation before the search")),
    ],
)
def test_weights_for_other_tasks_are_not_tried_as_classifiers(tmp_path, monkeypatch, kind, entry, classes, expected):
    monkeypatch.setattr("vitsearch.search.check.costs.COUNTING_S", 0.0)
    module = f"own_of_{kind}_{classes}"
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(NETWORK))
    layers = {"stem": torch.nn.Conv2d(1, 8, 4, 4), "out": torch.nn.Conv2d(8, classes, 1)}
    save_file(torch.nn.ModuleDict(layers).state_dict(), tmp_path / "own.safetensors")
    data, metric = ("fashion-mnist-14k", "cosine") if kind == "embedding" else ("fashion-mosaic", "mean_iou")
    kind = f'"{module}:Pixels"' if kind == "Pixels" else kind
    values = {"kind": kind, "entry": entry, "module": module, "folder": tmp_path}
    path = tmp_path / "space.yaml"
    path.write_text(OWN_SPACE.format(data=data, metric=metric, **values))
    valid = check_space(path).require()
    assert valid.tried["ours"].startswith(expected)
    assert count_models(valid).models.counted >= 1
