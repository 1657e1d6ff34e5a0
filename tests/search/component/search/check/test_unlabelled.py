"""A check of an ONNX file on images without labels."""

import warnings

import numpy as np
import torch
from PIL import Image
from torch import nn

from vitsearch.search.check import check_space

SPACE = """
task:
  data: {{source: folder, root: {folder}, labels: none, validation_share: 0.5}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize}}
space:
  backbone: {{onnx: {folder}/theirs.onnx, name: theirs, mean: 0, std: 1, resolution: 16}}
  resolution: 16
search: {{trials: 0}}
"""


def test_a_check_says_what_accuracy_is_and_classifies_nothing(tmp_path):
    for index in range(20):
        Image.fromarray(np.full((16, 16, 3), 12 * index, np.uint8)).save(tmp_path / f"{index}.png")
    net = nn.Sequential(nn.Conv2d(3, 32, 3, 2), nn.Flatten(), nn.Linear(32 * 49, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(1, 3, 16, 16),), str(tmp_path / "theirs.onnx"), dynamo=False)
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(folder=tmp_path))
    checked = check_space(path)
    assert (
        "weights of theirs: accuracy is the agreement with the fp32 outputs of theirs itself in onnxruntime, as the "
        "images have no labels: it compares forms of theirs with each other"
    ) in checked.require().describe()
    assert "classes: none, as the images have no labels" in checked.of_data.describe()
    assert not any("weights" in warning for warning in checked.warnings)
