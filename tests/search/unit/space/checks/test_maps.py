"""What of a space file does not go with a class for each pixel."""

from __future__ import annotations

import pytest

from vitsearch.errors import SpaceError
from vitsearch.space.load import load

SPACE = """
study: maps
task: {{kind: segmentation, data: {{{data}}}{task}}}
objectives: {{mean_iou: maximize, cpu_ms_p50: minimize}}
space: {{backbone: {backbone}, resolution: {resolution}, quantization: fp32, backend: onnxruntime}}
search: {{trials: 1}}
"""
MOSAIC = "source: builtin:fashion-mosaic"


def problems_of(tmp_path, data=MOSAIC, task="", backbone="vit_fmnist_p4", resolution="56"):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(data=data, task=task, backbone=backbone, resolution=resolution))
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


def test_masks_are_no_labels_of_a_classifier(tmp_path):
    path = tmp_path / "space.yaml"
    text = SPACE.format(data=MOSAIC, task="", backbone="vit_fmnist_p4", resolution="56")
    path.write_text(text.replace("kind: segmentation, ", "").replace("mean_iou", "accuracy"))
    with pytest.raises(SpaceError, match="its labels are masks, and task classification reads one class of each image"):
        load(path)
