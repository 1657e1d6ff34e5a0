"""What of a space file does not go with a class for each pixel."""

from __future__ import annotations

import pytest

from vitsearch.errors import SpaceError
from vitsearch.space.load import load

SPACE = """
study: maps
task: {{kind: {kind}, data: {{{data}}}{task}}}
objectives: {{mean_iou: maximize, cpu_ms_p50: minimize}}
space: {{backbone: {backbone}, resolution: {resolution}, quantization: fp32, backend: onnxruntime}}
search: {{trials: 1}}
{more}
"""
MOSAIC = "source: builtin:fashion-mosaic"
VALUES = {
    "kind": "segmentation",
    "data": MOSAIC,
    "task": "",
    "backbone": "vit_fmnist_p4",
    "resolution": "56",
    "more": "",
}


def problems_of(tmp_path, **change):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(**VALUES | change))
    try:
        load(path)
    except SpaceError as error:
        return str(error)
    return ""


def test_masks_and_a_backbone_are_enough(tmp_path):
    assert problems_of(tmp_path) == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": "source: builtin:fashion-mnist-14k"}, "task segmentation reads masks; allowed: source folder"),
        (
            {"task": ", base: {augmentation: {mixup: 0.2}}"},
            "task.base.augmentation.mixup: changes an image without its mask; allowed for masks: flip and crop",
        ),
        (
            {"resolution": "[56, [28, 56]]"},
            "space.resolution[1]: 28x56 has another shape than 56, and a map is of the whole image",
        ),
        (
            {"more": "baseline: {resolution: [28, 56]}"},
            "baseline.resolution: 28x56 has another shape than 56, and a map is of the whole image",
        ),
        (
            {"backbone": "[{name: vit_fmnist_p4, weights: builtin, crop_share: 0.9}]"},
            "crop_share: 0.9: a map is of the whole image; allowed: 1",
        ),
        (
            {"backbone": "[{onnx: model.onnx, name: theirs, mean: 0.5, std: 0.5, resolution: 56}]"},
            "an ONNX file is searched as a classifier, not for task segmentation",
        ),
    ],
)
def test_what_does_not_go_with_masks_is_said_where_it_is(tmp_path, change, expected):
    assert expected in problems_of(tmp_path, **change)


OWN = """
from vitsearch.tasks.segmentation.task import Segmentation

class Boxes(Segmentation):
    kind, gives_map = "boxes", False
"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        (
            {"resolution": "[56, [28, 56]]"},
            "space.resolution[1]: 28x56 has another shape than 56, and masks are of the whole image",
        ),
        (
            {"backbone": "[{name: vit_fmnist_p4, weights: builtin, crop_share: 0.9}]"},
            "crop_share: 0.9: masks are of the whole image; allowed: 1",
        ),
    ],
)
def test_a_task_of_ones_own_with_masks_shows_whole_images(tmp_path, change, expected):
    module = tmp_path.name  # another for each test: a process imports a name once
    (tmp_path / f"{module}.py").write_text(OWN)
    text = problems_of(tmp_path, kind=f'"{module}:Boxes"', **change)
    assert expected in text if expected else not text


@pytest.mark.parametrize("section", ["baseline: {crop_share: 0.9}", "task.teacher"])
def test_a_baseline_and_a_teacher_show_whole_images_too(tmp_path, section):
    if section == "task.teacher":
        change = {"task": ", teacher: {backbone: vit_fmnist_p4, weights: builtin, crop_share: 0.9}"}
    else:
        change = {"more": section}
    path = section.partition(":")[0]
    assert f"{path}.crop_share: 0.9: a map is of the whole image; allowed: 1" in problems_of(tmp_path, **change)


def test_masks_are_no_labels_of_a_classifier(tmp_path):
    path = tmp_path / "space.yaml"
    text = SPACE.format(**VALUES)
    path.write_text(text.replace("kind: segmentation, ", "").replace("mean_iou", "accuracy"))
    with pytest.raises(SpaceError, match="its labels are masks, and task classification reads one class of each image"):
        load(path)
