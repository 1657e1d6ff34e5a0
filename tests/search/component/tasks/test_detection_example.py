"""The task and the network of examples/detection: its boxes, its metric, its loss, and what of the network is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from support import REPOSITORY
from vitsearch.backbones.python_family import PythonFamily
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork
from vitsearch.data.fashion_mnist import subset_split
from vitsearch.data.fashion_mosaic import CLASS_NAMES, SIDE, drawn, mosaics
from vitsearch.own_module import import_own
from vitsearch.tasks import TrainingTargets, Truth
from vitsearch.testing.tasks import TaskTests

pytest.importorskip("faster_coco_eval", reason="the example needs faster-coco-eval")
FOLDER = str(Path(REPOSITORY, "examples", "detection"))
PICTURES = 12
DETECTION = import_own("task", FOLDER).Detection()
OUTPUTS = DETECTION.outputs(len(CLASS_NAMES))
EDGES = slice(OUTPUTS - 4, None)


class TestDetection(TaskTests):
    task = DETECTION

    def make_outputs(self, seed):
        shape = (24, self.task.outputs(len(self.class_names)), 4, 6)
        return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def masks():
    garments = subset_split("validation")
    rows = drawn(len(garments), PICTURES)
    return mosaics(garments.images[..., 0], garments.labels, rows)[1]


@pytest.fixture(scope="module")
def network():
    return PythonNetwork("detector", "detector:make", FOLDER, ImageSize.square(64))


def learned(masks):
    """The outputs that a loss leads to, without a model."""
    outputs = torch.zeros(len(masks), OUTPUTS, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.3)
    for _ in range(120):
        optimizer.zero_grad()
        DETECTION.loss(outputs, TrainingTargets(torch.from_numpy(masks))).backward()
        optimizer.step()
    return outputs.detach().numpy()


def test_boxes_are_those_of_the_pixels_of_each_garment(masks):
    boxes, classes = import_own("task", FOLDER).garments(torch.from_numpy(masks))
    for mask, of_mask, kinds in zip(masks, boxes.numpy(), classes.numpy(), strict=True):
        for quarter, (left, upper, right, lower) in enumerate(np.rint(of_mask * 2 * SIDE).astype(int)):
            top, start = (SIDE * part for part in divmod(quarter, 2))
            ys, xs = np.nonzero(mask[top : top + SIDE, start : start + SIDE])
            assert (left, right) == (start + xs.min(), start + xs.max() + 1)
            assert (upper, lower) == (top + ys.min(), top + ys.max() + 1)
            assert kinds[quarter] == mask[top + ys[0], start + xs[0]] - 1


def test_the_loss_leads_to_boxes_that_are_judged_right(masks):
    figure = DETECTION.judge(learned(masks), Truth(masks, CLASS_NAMES)).figures["mean_average_precision"]
    assert figure.value > 0.85
    assert figure.low <= figure.value <= figure.high


def test_shifted_boxes_and_wrong_classes_are_judged_worse(masks):
    right = learned(masks)
    shifted, confused = right.copy(), right.copy()
    shifted[:, EDGES] += 0.2
    confused[:, : EDGES.start] = np.roll(right[:, : EDGES.start], 1, axis=1)

    def precision(outputs):
        return DETECTION.judge(outputs, Truth(masks, CLASS_NAMES)).values["mean_average_precision"]

    assert 0.01 < precision(shifted) < 0.8 * precision(right)
    assert precision(confused) < 0.05


def test_a_picture_is_judged_by_its_own_boxes(masks):
    outputs = learned(masks)
    outputs[0] = 0.0
    each = DETECTION.pair(outputs, Truth(masks, CLASS_NAMES))
    assert each[0] < 0.05
    assert each[1:].min() > 0.5


def test_of_the_detector_only_the_backbone_is_cut(network):
    model = PythonFamily(network).unbuilt("detector")
    parts = PythonFamily(network).structure("detector").parts
    assert len(parts) == 8
    assert all(part.name.startswith("backbone.") and part.width for part in parts)
    assert not any(isinstance(layer, torch.nn.Linear) for layer in model.decoder.modules())
