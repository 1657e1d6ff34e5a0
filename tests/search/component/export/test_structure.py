"""Files of the same structure cost the same; whatever may change the cost changes the digest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vitsearch.core.plan import Deployment
from vitsearch.export import EXPORTERS, ExportedFile, ExportTask
from vitsearch.export.structure import digest_of

IMAGES = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
RUNTIMES = ("onnxruntime", "openvino")


def convolutions(seed=0, channels=32, stride=2):
    torch.manual_seed(seed)
    first = nn.Conv2d(1, channels, 3, stride=stride)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(channels, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@pytest.fixture
def structure(tmp_path):
    """structure(model, runtime, precision, batch, ...) -> the digest of its file."""

    def digest(model, runtime="onnxruntime", precision="fp32", batch=1, options=(), needed=()):
        pytest.importorskip(runtime)
        deployment = Deployment("local", runtime, "cpu", precision, batch)
        file = EXPORTERS.get(runtime)().export(model, ExportTask("levit", deployment, IMAGES), tmp_path)
        return digest_of(replace(file, options=needed), replace(deployment, options=options))

    return digest


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_do_not_count_and_shapes_do(structure, runtime):
    first = structure(convolutions(), runtime)
    assert first == structure(convolutions(seed=1), runtime)
    assert first != structure(convolutions(channels=24), runtime)
    assert first != structure(convolutions(stride=1), runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_weight_full_of_zeros_is_another_structure(structure, runtime):
    sparse = convolutions()
    with torch.no_grad():
        sparse[2].weight[:5] = 0
    assert structure(sparse, runtime) != structure(convolutions(), runtime)


def test_int8_of_a_model_without_linear_layers_is_its_fp32_file(structure):
    model = convolutions()
    assert structure(model, precision="int8_dynamic") == structure(model)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_precision_batch_or_option_is_another_structure(structure, runtime):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    digests = [
        structure(model, runtime),
        structure(model, runtime, "fp16"),
        structure(model, runtime, batch=2),
        structure(model, runtime, batch=None),
        structure(model, runtime, options=(("another", 1),)),
        structure(model, runtime, needed=(("fused_subgraphs", "off"),)),
    ]
    assert len(set(digests)) == len(digests)


def test_an_int8_file_differs_from_fp32_where_layers_are_quantized(structure):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
    assert structure(model, precision="int8_ptq") != structure(model)


def test_the_structure_of_other_formats_is_unknown(tmp_path):
    path = tmp_path / "model.tflite"
    assert digest_of(ExportedFile(path), Deployment("local", "litert", "cpu", "fp32")) is None
