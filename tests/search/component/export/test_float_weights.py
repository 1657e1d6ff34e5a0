"""What is said of the layers that int8 files have in floats, against the files themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vitsearch.core.plan import Deployment
from vitsearch.export import EXPORTERS, ExportTask
from vitsearch.export.float_weights import float_weights
from vitsearch.search.form_finder import float_text

IMAGES = np.random.default_rng(0).normal(size=(8, 1, 16, 16)).astype(np.float32)
STEM, CONV = 4 * 9 * 32, 4 * 32 * 9 * 64


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(1, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1), nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.conv(torch.relu(self.stem(images))))
        return self.head(maps.mean((2, 3)))


@pytest.fixture
def written(tmp_path):
    def write(ops, precision="int8_ptq", fp32_layers=()):
        torch.manual_seed(0)
        deployment = Deployment("local", "onnxruntime", "cpu", precision, 1, ops)
        folder = tmp_path / f"{ops}-{precision}"
        folder.mkdir()
        task = ExportTask("own", deployment, IMAGES, fp32_layers=fp32_layers)
        file = EXPORTERS.get("onnxruntime")().export(Net().eval(), task, folder)
        return file.path.stat().st_size, float_weights(file, deployment)

    return write


def test_the_convolutions_that_stay_in_floats_are_named_with_what_they_cost(written):
    (large, of_linear), (small, of_all) = written("linear"), written("all")
    assert list(of_linear.items()) == [("conv", CONV), ("stem", STEM)]
    assert of_all == {"stem": STEM}  # too few channels to gain
    assert large > 2.7 * small
    assert large - small == pytest.approx(CONV * 3 / 4, rel=0.05)
    assert float_text(of_linear) == (
        "2 layers stay in fp32, 0.0562 MB more than in int8: conv (0.0737 MB), stem (0.00115 MB)"
    )


def test_a_linear_layer_that_stays_is_named_too(written):
    _, weights = written("all", fp32_layers=["head"])
    assert "head" in "".join(weights)
    assert sorted(weights.values()) == [STEM, 4 * 64 * 10]


def test_nothing_is_said_of_a_precision_that_lets_no_layers_be_chosen(written):
    assert written(None, "fp32")[1] == {}
