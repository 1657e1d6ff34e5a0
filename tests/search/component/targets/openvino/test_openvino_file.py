"""Files for OpenVINO, run by the agent's own runtime on this CPU."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import prune
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.export import ExportTask, deploy, evaluate, precision_shares
from vitsearch.stages.parts.exporting import write
from vitsearch.targets.openvino.exporter import OpenVinoExporter

pytest.importorskip("nncf")
NOT_FUSED = (("fused_subgraphs", "off"),)


def base(name):
    family = backbones.find(name)
    model = family.build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    return deploy.deployed(model, family, (1, 1, 28, 28))


@pytest.fixture(scope="module")
def vit():
    return base("vit_fmnist_p4")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((8, 1, 28, 28)).astype(np.float32)


def task(images, precision, batch=1):
    return ExportTask("vit", Deployment("local", "openvino", "cpu", precision, batch), images)


@pytest.mark.long
def test_attention_with_as_many_tokens_as_heads_is_not_fused(images, tmp_path):
    """MobileViT at 28 pixels has 4 heads and 4 tokens; fused, its logits are off by 6 %."""
    written = write(base("mobilevit_fmnist"), task(images, "fp32"), tmp_path)
    assert written.file.options == NOT_FUSED
    assert written.parity < 1e-5


def test_other_attention_is_fused(vit, images, tmp_path):
    written = write(vit, task(images, "fp32"), tmp_path)
    assert written.file.options == ()
    assert written.parity < 1e-5


def with_ffn(channels):
    """The plain ViT with so many channels in each FFN."""
    family = backbones.find("vit_fmnist_p4")
    model = family.build(ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)).model.eval()
    blocks = (ResolvedBlock(tuple(range(6)), tuple(range(channels))),) * 6
    prune.apply(
        model, family, ResolvedPlan("vit_fmnist_p4", ImageSize.square(28), None, blocks), torch.zeros(1, 1, 28, 28)
    )
    return deploy.deployed(model, family, (1, 1, 28, 28))


@pytest.mark.parametrize("channels", [96, 256])
def test_narrow_ffns_are_not_fused_in_fp32(images, tmp_path, channels):
    """Fused, they end the process by a segmentation fault while OpenVINO 2026.4 compiles the model."""
    written = write(with_ffn(channels), task(images, "fp32"), tmp_path)
    assert written.file.options == NOT_FUSED
    assert written.parity < 1e-5


@pytest.mark.parametrize(("channels", "precision"), [(272, "fp32"), (96, "bf16")])
def test_other_ffns_are_fused(images, tmp_path, channels, precision):
    assert OpenVinoExporter().export(with_ffn(channels), task(images, precision), tmp_path).options == ()


@pytest.mark.long
def test_an_open_batch_takes_any_number_of_images(vit, images, tmp_path):
    file = OpenVinoExporter().export(vit, task(images, "fp32", None), tmp_path)
    path, job = evaluate.judging_job(file, task(images, "fp32", None).deployment)
    actual = [evaluate.logits(path, images, batch, job=job) for batch in (1, 8)]
    np.testing.assert_allclose(*actual, atol=1e-4)


def test_bf16_is_a_setting_of_the_run_and_not_of_the_file(vit, images, tmp_path):
    for precision in ("fp32", "bf16"):
        (tmp_path / precision).mkdir()
        OpenVinoExporter().export(vit, task(images, precision), tmp_path / precision)
    files = [tmp_path / precision / "model.bin" for precision in ("fp32", "bf16")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_fp16_halves_the_file(vit, images, tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16"):
        (tmp_path / precision).mkdir()
        file = OpenVinoExporter().export(vit, task(images, precision), tmp_path / precision)
        sizes[precision] = file.path.with_suffix(".bin").stat().st_size
    assert sizes["fp16"] < 0.55 * sizes["fp32"]


@pytest.mark.long
def test_static_int8_is_small_and_close(vit, images, tmp_path):
    export_task = task(images, "int8_ptq")
    written = write(vit, export_task, tmp_path)
    assert written.parity < 0.1
    assert precision_shares.by_precision(written.file, export_task.deployment)["int8"] > 0.9
    assert written.file.path.with_suffix(".bin").stat().st_size < 4e6


@pytest.fixture(scope="module")
def efficientvit():
    return base("efficientvit_fmnist")


def int8_share(model, images, precision, ops, folder):
    export_task = task(images, precision)
    export_task = replace(export_task, deployment=replace(export_task.deployment, quantized_ops=ops))
    return precision_shares.by_precision(write(model, export_task, folder).file, export_task.deployment).get(
        "int8", 0.0
    )


@pytest.mark.long
def test_static_int8_of_linear_layers_leaves_convolutions_in_fp32(efficientvit, images, tmp_path):
    shares = {ops: int8_share(efficientvit, images, "int8_ptq", ops, tmp_path) for ops in ("linear", "all", None)}
    assert shares["linear"] < 0.05
    assert shares["all"] == shares[None] > 0.9


@pytest.mark.long
def test_convolutions_of_a_model_that_was_trained_for_int8_are_quantized_where_they_are_covered(
    efficientvit, images, tmp_path
):
    model = copy.deepcopy(efficientvit)
    fake_quant.prepare(model, [torch.from_numpy(images)])
    shares = {ops: int8_share(model, images, "int8_qat", ops, tmp_path) for ops in ("linear", "all", None)}
    assert shares["linear"] == shares[None] < 0.05
    assert shares["all"] > 0.5


@pytest.mark.long
def test_a_model_that_was_trained_for_int8_keeps_its_ranges(vit, images, tmp_path):
    model = copy.deepcopy(vit)
    fake_quant.prepare(model, [torch.from_numpy(images)])
    for _, layer in fake_quant.quantized(model):
        layer.start.mul_(0.5)  # as if training had halved every range
    written = write(model, task(images, "int8_qat"), tmp_path)
    with torch.inference_mode():
        plain = vit(torch.from_numpy(images)).numpy()
    path, job = evaluate.judging_job(written.file, task(images, "int8_qat").deployment)
    actual = evaluate.logits(path, images, 1, job=job)
    assert written.parity < 0.05, "it computes what the rounding model computes"
    assert np.abs(actual - plain).max() > 0.1 * np.abs(plain).max(), "and not what the model in fp32 computes"
