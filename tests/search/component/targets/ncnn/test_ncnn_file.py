"""Files for ncnn compute what torch does; what pnnx cannot convert is refused in its words."""

from __future__ import annotations

import json
import subprocess
import zipfile

import numpy as np
import pytest
import timm
import torch

from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, ExportTask, evaluate, metadata, precision_shares
from vitsearch.export.base import PARITY_LIMIT
from vitsearch.testing.exporters import ExporterTests
from vitsearch_agent import artifacts

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 64, 64)).astype(np.float32)


class TestNcnn(ExporterTests):
    runtime = "ncnn"


@pytest.fixture
def exported(tmp_path):
    """exported(model, precision, batch) -> the file, with its deployment."""
    exporter = EXPORTERS.get("ncnn")()
    if reason := exporter.missing():
        pytest.skip(reason)

    def export(model, precision="fp32", batch=1):
        deployment = Deployment("local", "ncnn", "cpu", precision, batch)
        return exporter.export(model, ExportTask("vit", deployment, IMAGES), tmp_path), deployment

    return export


def network(name):
    torch.manual_seed(0)
    small = {"img_size": 64, "depth": 2} if name.startswith(("vit_", "deit_")) else {}
    return timm.create_model(name, num_classes=10, **small)


@pytest.mark.parametrize(
    ("name", "precision", "batch", "limit"),
    [
        ("vit_tiny_patch16_224", "fp32", 1, PARITY_LIMIT),
        ("vit_tiny_patch16_224", "fp16", 2, 2e-3),
        ("deit_tiny_distilled_patch16_224", "fp32", 1, PARITY_LIMIT),
        ("mobilenetv3_small_050", "fp32", 2, PARITY_LIMIT),
        ("mobilenetv3_small_050", "fp16", 1, 2e-3),
        ("efficientvit_b0", "fp32", 1, PARITY_LIMIT),
    ],
)
def test_a_file_computes_what_torch_does(exported, name, precision, batch, limit):
    model = network(name).eval()
    file, deployment = exported(model, precision, batch)
    with torch.inference_mode():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    path, job = evaluate.judging_job(file, deployment)
    logits = evaluate.logits(path, IMAGES, batch, job=job)
    assert np.abs(logits - expected).max() <= limit * np.abs(expected).max()
    assert precision == "fp16" or precision_shares.by_precision(file, deployment) == {"fp32": 1.0}


def test_half_the_bits_are_half_the_file(exported):
    model = network("vit_tiny_patch16_224").eval()
    whole = exported(model)[0].path.with_suffix(".bin").stat().st_size
    half = exported(model, "fp16")[0].path.with_suffix(".bin").stat().st_size
    assert 0.5 <= half / whole < 0.51


def test_the_model_keeps_its_attention(exported):
    model = network("vit_tiny_patch16_224").eval()
    exported(model)
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_file_says_what_it_is(exported, tmp_path):
    file, deployment = exported(network("mobilenetv3_small_050").eval())
    path, job = evaluate.judging_job(file, deployment)
    before = evaluate.logits(path, IMAGES, 1, job=job)
    metadata.write(file.path, metadata.describe("0" * 64, {"resolution": 64}, ("a", "b")))
    np.testing.assert_array_equal(evaluate.logits(path, IMAGES, 1, job=job), before)
    with zipfile.ZipFile(file.path.with_suffix(".bin")) as archive:
        assert json.loads(archive.read("vitsearch.json"))["artifact_key"] == "0" * 64
    assert artifacts.inspect("ncnn", artifacts.model_files(str(file.path))).kind == "ncnn"


def test_what_pnnx_cannot_convert_is_refused_in_its_words(exported):
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1, 1, 1), num_classes=10)
    with pytest.raises(StageError, match="pnnx: reshape .* rank 5"):
        exported(swin.eval())


def test_a_pnnx_that_hangs_ends(exported, monkeypatch):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired("pnnx", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(StageError, match="pnnx has not finished after"):
        exported(network("mobilenetv3_small_050").eval())
