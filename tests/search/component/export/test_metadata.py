"""A file says what its input is; its cost and its logits stay what they were."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from support.artifact_files import tflite
from vitsearch.core.plan import Deployment
from vitsearch.export import EXPORTERS, ExportTask, evaluate, metadata
from vitsearch.export.structure import digest_of
from vitsearch_agent import artifacts

SETTINGS = {"image_size": 28, "channels": 1, "resolution": 8, "mean": [0.5], "std": [0.25]}
LABELS = ("Hosen & <Röcke>", "Ankle boot")
KEY = "ab" * 32
SAID = metadata.describe(KEY, SETTINGS, LABELS)
IMAGES = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def exported(tmp_path):
    """exported(runtime) -> the file of a small model, and its deployment."""

    def export(runtime):
        pytest.importorskip(runtime if runtime != "coreml" else "coremltools")
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
        deployment = Deployment("local", runtime, "cpu", "fp32", 1)
        return EXPORTERS.get(runtime)().export(model, ExportTask("levit", deployment, IMAGES), tmp_path), deployment

    return export


def inspected(path):
    files = artifacts.model_files(str(path))
    kinds = {".onnx": "onnx", ".xml": "openvino", ".tflite": "tflite", ".mlmodel": "coreml"}
    return artifacts.inspect(kinds[path.suffix], files)


def read_onnx(path):
    return {entry.key.removeprefix("vitsearch."): entry.value for entry in onnx.load(path).metadata_props}


def read_openvino(path):
    import openvino

    model = openvino.Core().read_model(path)
    return {name: model.get_rt_info(["vitsearch", name]).astype(str) for name in SAID}


@pytest.mark.parametrize(("runtime", "read"), [("onnxruntime", read_onnx), ("openvino", read_openvino)])
def test_a_file_carries_its_metadata_and_stays_the_same_model(exported, runtime, read):
    file, deployment = exported(runtime)
    path, job = evaluate.judging_job(file, deployment)
    structure, logits = digest_of(file, deployment), evaluate.logits(path, IMAGES, 1, job=job)
    metadata.write(file.path, SAID)
    assert read(file.path) == SAID
    assert digest_of(file, deployment) == structure
    assert (evaluate.logits(path, IMAGES, 1, job=job) == logits).all()
    inspected(file.path)


def test_the_metadata_is_written_in_the_same_bytes_every_time(exported):
    file, _ = exported("onnxruntime")
    before = file.path.read_bytes()
    metadata.write(file.path, SAID)
    first = file.path.read_bytes()
    file.path.write_bytes(before)
    metadata.write(file.path, SAID)
    assert file.path.read_bytes() == first != before


def test_a_tflite_file_has_its_metadata_in_a_zip_behind_the_model(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite())
    metadata.write(path, SAID)
    assert path.read_bytes().startswith(tflite())
    with zipfile.ZipFile(path) as packed:
        assert json.loads(packed.read("vitsearch.json")) == SAID
    inspected(path)


def test_a_core_ml_program_has_its_metadata_in_its_description(exported):
    file, _ = exported("coreml")
    metadata.write(file.path, SAID)
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString(file.path.read_bytes())
    assert {name: spec.description.metadata.userDefined[f"vitsearch.{name}"] for name in SAID} == SAID
    inspected(file.path)


def test_what_is_no_plain_text_is_json():
    assert json.loads(SAID["labels"]) == list(LABELS)
    assert json.loads(SAID["preprocessing"]) == SETTINGS
    assert SAID["artifact_key"] == KEY
