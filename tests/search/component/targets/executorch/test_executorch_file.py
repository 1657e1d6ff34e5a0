"""What ExecuTorch's files are, beyond the conformance test of exporters."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from support.pte_program import PROGRAM
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, ExportTask, metadata, precision_shares
from vitsearch.export.evaluate import logits
from vitsearch.stages.parts.exporting import write
from vitsearch.targets.executorch import shares
from vitsearch.targets.executorch.exporter import ExecuTorchExporter

needs_executorch = pytest.mark.skipif(
    ExecuTorchExporter().missing() is not None, reason=str(ExecuTorchExporter().missing())
)
LINEAR_MACS, CONV_MACS = 144 * 3, 4 * 6 * 6 * 9


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def task(precision="fp32", **changes):
    images = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    deployment = replace(Deployment("local", "executorch", "cpu", precision, batch=1), **changes)
    return ExportTask("vit", deployment, images)


def shares_of(wanted, folder):
    file = EXPORTERS.get("executorch")().export(small(), wanted, folder)
    return precision_shares.by_precision(file, wanted.deployment)


@needs_executorch
def test_an_fp32_file_computes_as_torch_and_xnnpack_has_all_its_products(tmp_path):
    written = write(small(), task(), tmp_path)
    assert written.parity < 1e-5
    assert shares.macs(written.file.path, task().deployment) == {"fp32": LINEAR_MACS + CONV_MACS}
    assert shares.delegated(written.file.path) == 1.0


@pytest.mark.long
@needs_executorch
@pytest.mark.parametrize(("ops", "int8"), [("all", 1.0), ("linear", LINEAR_MACS / (LINEAR_MACS + CONV_MACS))])
def test_int8_covers_the_layers_that_the_deployment_names(ops, int8, tmp_path):
    assert shares_of(task("int8_ptq", quantized_ops=ops), tmp_path)["int8"] == pytest.approx(int8)


@pytest.mark.long
@needs_executorch
def test_layers_that_stay_in_fp32_do(tmp_path):
    wanted = replace(task("int8_ptq"), fp32_layers=("3",))
    assert shares_of(wanted, tmp_path)["fp32"] == pytest.approx(LINEAR_MACS / (LINEAR_MACS + CONV_MACS))


@needs_executorch
def test_a_file_runs_with_its_metadata_behind_it(tmp_path):
    path, images = tmp_path / "model.pte", np.arange(8, dtype=np.float32).reshape(1, 8)
    path.write_bytes(PROGRAM)
    before = logits(path, images, 1, job=job())
    metadata.write(path, metadata.describe("0" * 64, {"resolution": 8}, ("a", "b", "c", "d")))
    assert np.array_equal(logits(path, images, 1, job=job()), before)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("vitsearch.json"))["labels"] == '["a", "b", "c", "d"]'


def job():
    from vitsearch.export.device_jobs import device_job

    return device_job(task().deployment)


@pytest.mark.long
@needs_executorch
@pytest.mark.parametrize("name", ["vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist"])
def test_a_shipped_base_keeps_its_logits(name, tmp_path):
    model = backbones.find(name).build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    images = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    assert write(model, replace(task(), images=images), tmp_path).parity < 1e-5


@pytest.mark.long
@needs_executorch
def test_a_map_of_a_rectangle_keeps_its_shape_in_a_batch(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 3, 1)
    )
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 12)).astype(np.float32)
    wanted = replace(task(batch=2), images=images)
    path = EXPORTERS.get("executorch")().export(model.eval(), wanted, tmp_path).path
    actual = logits(path, images, 2, job=job())
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    assert actual.shape == (3, 3, 16, 24)
    assert np.abs(actual - expected).max() < 1e-5


class Conditional(nn.Module):
    def forward(self, images):
        flat = images.flatten(1)
        return flat if float(flat.sum()) > 0 else -flat


@needs_executorch
def test_a_model_that_torch_cannot_export_is_a_failed_export(tmp_path):
    with pytest.raises(StageError, match=r"torch\.export: ") as failed:
        EXPORTERS.get("executorch")().export(Conditional(), task(), tmp_path)
    assert failed.value.kind == "crash"


@pytest.mark.parametrize("precision", ["int8_dynamic", "int8_qat"])
def test_precisions_that_it_cannot_have_are_refused_with_the_reason(precision):
    reason = EXPORTERS.get("executorch")().supports("vit", precision)
    assert reason is not None
    assert "ExecuTorch" in reason
