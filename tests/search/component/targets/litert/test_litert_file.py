import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from support.fake_converter import FAILS, IDLES, FakeConverter
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.targets import TARGETS
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, ExportTask, converters, evaluate
from vitsearch.stages.parts.exporting import write
from vitsearch.targets.litert.exporter import SCRIPT, LiteRtExporter

needs_converter = pytest.mark.skipif(LiteRtExporter().missing() is not None, reason=str(LiteRtExporter().missing()))


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 3))


def task(precision="fp32", batch=1):
    images = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    return ExportTask("vit", Deployment("local", "litert", "cpu", precision, batch=batch), images)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Makes an installed converter that does what it is told."""
    monkeypatch.setenv(converters.FOLDER_VARIABLE, str(tmp_path / "converters"))

    def make(*body: str) -> FakeConverter:
        return FakeConverter(tmp_path / "converters", *body).mark_installed()

    return make


def export(task, folder, model=None):
    folder.mkdir(exist_ok=True)
    return EXPORTERS.get("litert")().export(model or small(), task, folder)


# ---- the protocol with the converter


def test_without_a_converter_the_export_names_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setenv(converters.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(StageError, match="run: vitsearch install-converter litert") as failed:
        export(task(), tmp_path / "files")
    assert (failed.value.stage, failed.value.kind) == ("export", "missing")


def test_what_is_missing_is_named_with_its_command(fake, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "run: pip install 'vitsearch[litert]'; " in str(LiteRtExporter().missing()), "and the converter"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert str(LiteRtExporter().missing()).endswith("run: vitsearch install-converter litert")
    fake()
    assert LiteRtExporter().missing() is None


def test_fp32_is_one_conversion(fake, tmp_path):
    converter, folder = fake(), tmp_path / "files"
    file = export(task(), folder)
    assert file.path == folder / "model.tflite"
    assert file.path.read_bytes() == b"TFL3convert"
    assert [call[1:3] for call in converter.calls] == [[str(SCRIPT), "convert"]]


@pytest.mark.parametrize("precision", ["int8_dynamic", "int8_ptq", "int8_weights"])
def test_int8_is_a_conversion_and_a_quantization_with_the_calibration_images(precision, fake, tmp_path):
    converter, folder = fake(), tmp_path / "files"
    wanted = task(precision)
    file = export(wanted, folder)
    assert file.path.read_bytes() == b"TFL3quantize"
    _, (_, _, *quantize) = converter.calls
    plain, final, images = (str(folder / name) for name in ("fp32.tflite", "model.tflite", "images.npy"))
    assert quantize == ["quantize", plain, final, precision, images]
    assert np.array_equal(np.load(images), wanted.images)


@pytest.mark.parametrize(
    ("precision", "ops", "way"),
    [
        ("int8_ptq", "all", "int8_ptq"),
        ("int8_ptq", "linear", "int8_ptq_linear"),
        ("int8_dynamic", "linear", "int8_dynamic"),
    ],
)
def test_the_script_is_told_which_layers_int8_covers(precision, ops, way, fake, tmp_path):
    converter, wanted = fake(), task(precision)
    export(replace(wanted, deployment=replace(wanted.deployment, quantized_ops=ops)), tmp_path / "files")
    assert converter.calls[-1][5] == way


def test_all_precisions_of_a_model_share_one_conversion(fake, tmp_path):
    converter = fake()
    for precision in ("fp32", "int8_dynamic", "fp32"):
        export(task(precision), tmp_path / precision)
    assert [call[2] for call in converter.calls] == ["convert", "quantize"]
    other = small()
    other[3].bias.data += 1
    export(task(), tmp_path / "other", other)
    assert [call[2] for call in converter.calls] == ["convert", "quantize", "convert"]


def test_the_program_has_our_names_and_the_batch_of_the_deployment(fake, tmp_path):
    kept = f"import shutil; call[2] == 'convert' and shutil.copy(call[3], {str(tmp_path / 'kept.pt2')!r})"
    fake(f"{kept}\nPath(call[-1]).write_bytes(b'TFL3')")
    model = small().train()
    export(task(batch=2), tmp_path / "files", model)
    program = torch.export.load(tmp_path / "kept.pt2")
    arguments, named = program.example_inputs
    assert (arguments, {name: tuple(value.shape) for name, value in named.items()}) == ((), {"images": (2, 1, 8, 8)})
    images = torch.randn(2, 1, 8, 8)
    actual = program.module()(images=images)
    assert list(actual) == ["logits"]
    assert torch.allclose(actual["logits"], model.eval()(images), atol=1e-6)


def test_the_model_is_not_changed(fake, tmp_path):
    fake()
    model = small().train()
    export(task(), tmp_path / "files", model)
    assert model.training


def test_a_failing_converter_is_reported_with_its_last_words(fake, tmp_path):
    fake(FAILS)
    with pytest.raises(StageError, match="litert_convert convert: ValueError: no lowering for aten.foo"):
        export(task(), tmp_path / "files")


def test_a_converter_that_writes_nothing_is_a_failed_export(fake, tmp_path):
    fake(IDLES)
    with pytest.raises(StageError, match="wrote no file"):
        export(task(), tmp_path / "files")


class Conditional(nn.Module):
    def forward(self, images):
        flat = images.flatten(1)
        return flat if float(flat.sum()) > 0 else -flat


def test_a_model_that_torch_cannot_export_is_a_failed_export(fake, tmp_path):
    fake()
    with pytest.raises(StageError, match=r"torch\.export: ") as failed:
        export(task(), tmp_path / "files", Conditional())
    assert failed.value.kind == "crash"


def test_the_script_needs_nothing_of_ours(tmp_path):
    """It starts in an empty environment, and its last line is the reason of a failure."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), "convert", "a.pt2", "b.tflite"]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": os.defpath}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "ModuleNotFoundError: No module named 'litert_torch'"


def test_int8_qat_is_refused_with_the_reason():
    reason = EXPORTERS.get("litert")().supports("vit", "int8_qat")
    assert reason is not None
    assert "LayerNorm" in reason


# ---- the real converter


@pytest.mark.long
@needs_converter
@pytest.mark.parametrize("precision", TARGETS["litert"].precisions)
def test_files_of_every_precision_run_as_torch_computes(precision, tmp_path):
    written = write(small().eval(), task(precision), tmp_path)  # raises when an fp32 file differs
    assert written.parity < (1e-5 if precision == "fp32" else 0.05)


@pytest.mark.long
@needs_converter
def test_a_batch_runs_as_a_whole(tmp_path):
    model, wanted = small().eval(), task(batch=3)
    path, job = evaluate.judging_job(export(wanted, tmp_path, model), wanted.deployment)
    actual = evaluate.logits(path, wanted.images, 3, job=job)
    assert np.abs(actual - model(torch.from_numpy(wanted.images)).detach().numpy()).max() < 1e-5


@pytest.mark.long
@needs_converter
def test_a_shipped_base_keeps_its_logits(tmp_path):
    model = (
        backbones.find("vit_fmnist_p4")
        .build(ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1))
        .model.eval()
    )
    images = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    assert write(model, replace(task(), images=images), tmp_path).parity < 1e-5
