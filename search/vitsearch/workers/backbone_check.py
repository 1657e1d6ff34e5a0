"""Try a backbone: build it with random weights, write its file at every precision, and run each file here.

This needs no data, no download and no training. It finds in seconds what a search would find after training a base.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.compress import macs
from vitsearch.compress.quantization import fake_quant
from vitsearch.core import precisions
from vitsearch.core.backbone_check import BackboneCheck, FileCheck
from vitsearch.core.image_size import ImageSize
from vitsearch.core.legality import possible_ops
from vitsearch.core.onnx_exporters import exporter_of
from vitsearch.core.plan import Deployment, precision_text
from vitsearch.core.targets import TARGETS, quick_runtimes
from vitsearch.errors import PlanError, StageError, VitsearchError
from vitsearch.export import EXPORTERS, ExportTask, deploy, evaluate, precision_shares
from vitsearch.models.surgery import raise_layer_scales
from vitsearch.stages.parts.exporting import write
from vitsearch_agent.artifacts import model_files

IMAGENET_CLASSES = 1000
IMAGES = 4
"""Random images that calibrate the files and compare them with torch."""
NOT_HERE = frozenset({"missing", "runtime_unavailable"})
"""Kinds of failures that say nothing of the model: a converter or a kernel is missing on this machine."""


def check_backbone(
    name: str,
    resolution: ImageSize | None = None,
    runtimes: Sequence[str] = (),
    doing: Callable[[str], None] = lambda text: None,
) -> BackboneCheck:
    """Try `name` at `resolution` (None: its native one) in `runtimes` (empty: those whose files are
    written in seconds), at every precision that can be made.

    `doing` gets what begins now, in words.

    `UnknownName` for a backbone of no family, `PlanError` for a
    resolution that it does not support.
    """
    family = backbones.find(name)
    spec = _spec(name, resolution or family.native_resolution(name))
    macs_m: float | None = None
    params_m: float | None = None
    files: tuple[FileCheck, ...] = ()
    reason = family.supports(name, "quantization", "fp32")
    if reason is None:
        try:
            doing(f"{name}: building it at {spec.resolution} pixels")
            model = family.build(spec).model.eval()
            raise_layer_scales(model)
            images = _images(spec)
            ships = deploy.deployed(model, family, tuple(images.shape))
            macs_m, params_m = macs.count(ships, images[:1])
            files = tuple(_files(ships, images, spec, runtimes or quick_runtimes(), doing))
        except PlanError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever timm, torch or onnx raises is the answer
            reason = _in_one_line(error)
    return BackboneCheck(name, family.family, spec.resolution, params_m, macs_m, reason, files)


def _spec(name: str, resolution: ImageSize) -> ModelSpec:
    """With the classes and channels of a built-in base, or those of ImageNet-1k."""
    base = BUILTIN.get(name)
    classes, channels = (base.classes, base.channels) if base else (IMAGENET_CLASSES, 3)
    return ModelSpec(name, "none", resolution, classes, channels)


def _images(spec: ModelSpec) -> torch.Tensor:
    shape = IMAGES, spec.channels, *spec.resolution.sides
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _files(
    ships: nn.Module, images: torch.Tensor, spec: ModelSpec, runtimes: Sequence[str], doing: Callable[[str], None]
) -> Iterator[FileCheck]:
    family = backbones.find(spec.backbone)
    for runtime in runtimes:
        exporter = EXPORTERS.get(runtime)()
        for precision in TARGETS[runtime].precisions:
            reason = family.supports(spec.backbone, "quantization", precision)
            reason = reason or exporter.supports(family.family, precision) or exporter.missing()
            provider = precisions.provider_for(runtime, precision)
            for ops in possible_ops(spec.backbone, runtime, provider, precision, family.supports) or (None,):
                check = FileCheck(runtime, precision, ops)
                if reason:
                    yield replace(check, is_refused=True, reason=reason)
                    continue
                doing(f"{spec.backbone}: writing {precision_text(precision, ops)} for {runtime} and running it")
                yield _file(ships, images, spec.backbone, check)


def _file(ships: nn.Module, images: torch.Tensor, backbone: str, check: FileCheck) -> FileCheck:
    """Write the file of the `check` of a backbone, and run it. A mixed one keeps the last layer in fp32."""
    model, is_mixed = ships, check.precision in precisions.MIXED
    linear = [name for name, layer in ships.named_modules() if isinstance(layer, nn.Linear)]
    provider = precisions.provider_for(check.runtime, check.precision)
    batch = None if precisions.opens_batch(check.runtime, provider) else 1
    deployment = Deployment("local", check.runtime, provider, check.precision, batch, check.quantized_ops)
    family, exporter, fp32 = backbones.find(backbone).family, exporter_of(backbone), linear[-1:] if is_mixed else ()
    task = ExportTask(family, deployment, images.numpy(), fp32_layers=fp32, exporter=exporter)
    try:
        if check.precision in precisions.TRAINED:
            model = copy.deepcopy(ships)
            fake_quant.prepare(model, [images])
        with tempfile.TemporaryDirectory() as folder:
            written = write(model, task, Path(folder))
            path, judge = evaluate.judging_job(written.file, deployment)
            stands_in = written.file.judged is not None  # its time would be that of another runtime
            latency_ms = None if stands_in else evaluate.latency_ms(path, images[:1].numpy(), job=judge)
            size_mb = sum(Path(file).stat().st_size for file in model_files(str(written.file.path)).values()) / 1e6
            kept = precision_shares.by_precision(written.file, deployment)
        return replace(check, difference=written.parity, size_mb=size_mb, latency_ms=latency_ms, shares=kept)
    except Exception as error:  # noqa: BLE001 - whatever the converter or the runtime raises is the answer
        is_missing = isinstance(error, StageError) and error.kind in NOT_HERE
        return replace(check, is_refused=is_missing, reason=_in_one_line(error))


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, VitsearchError) and text else f"{type(error).__name__}: {text}"
