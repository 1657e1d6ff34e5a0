"""The answers of a stored file, class by class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitsearch.errors import ResourceError
from vitsearch.workers.answers import StoredFile, by_class, predicted

NAMES = ("bolt", "nut", "washer", "never seen")


def test_each_class_has_its_accuracy_and_what_it_is_taken_for():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    answers = np.array([0, 1, 1, 2, 1, 1, 0])
    bolt, nut, washer = by_class(answers, labels, NAMES)
    assert (bolt.name, bolt.n, bolt.correct, bolt.confused_with, bolt.confused) == ("bolt", 4, 1, "nut", 2)
    assert (nut.accuracy, nut.confused_with) == (1.0, None)
    assert (washer.accuracy, washer.confused_with) == (0.0, "bolt")
    assert bolt.low < bolt.accuracy < bolt.high
    assert bolt.to_json()["accuracy"] == 0.25


def test_a_file_that_this_machine_cannot_run_is_refused(plan):
    deployment = replace(plan.deployment, runtime="tensorrt", provider="gpu")
    file = StoredFile(Path("model.onnx"), replace(plan, deployments=(deployment,)), {}, 1)
    with pytest.raises(ResourceError) as caught:
        predicted(file, None)
    assert str(caught.value) == (
        "a file of tensorrt cannot be run on this machine; accuracies of single images are computed for onnxruntime, "
        "openvino, litert"
    )
