"""Models whose files for TensorRT are looked at."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from support.marks import long
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.export import EXPORTERS, ExportTask, evaluate
from vitsearch.models.surgery import raise_layer_scales

BASES = {
    "vit": ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1),
    "efficientvit": ModelSpec("efficientvit_fmnist", "builtin", ImageSize.square(28), 10, 1),
    "mobilevit": ModelSpec("mobilevit_fmnist", "builtin", ImageSize.square(28), 10, 1),
    "levit": ModelSpec("levit_128s", "none", ImageSize.square(64), 10),
}


@dataclass(eq=False)
class Subject:
    """A model with its images; `export(precision, version)` writes its file once for all tests."""

    family: str
    model: nn.Module
    images: torch.Tensor
    folder: Path

    def task(self, precision, version, batch=1, ops=None):
        deployment = Deployment("local", "tensorrt", "gpu", precision, batch, ops)
        return ExportTask(self.family, deployment, self.images.numpy(), version=version)

    def export(self, precision, version, batch=1, ops=None):
        folder = self.folder / f"{precision}-{version}-{batch}-{ops}"
        if not folder.exists():
            folder.mkdir()
            model = self.rounded() if precision == "int8_qat" else self.model
            EXPORTERS.get("tensorrt")().export(model, self.task(precision, version, batch, ops), folder)
        return onnx.load(folder / "model.onnx"), folder

    @property
    def heads(self):
        """The classifiers: LeViT has a second one for distillation."""
        return 2 if self.family == "levit" else 1

    def rounded(self):
        model = copy.deepcopy(self.model)
        fake_quant.prepare(model, [self.images])
        return model

    def difference(self, path, model=None):
        """The largest difference of a file to torch, over the largest logit."""
        with torch.inference_mode():
            expected = (model or self.model)(self.images).numpy()
        actual = evaluate.logits(path, self.images.numpy(), 1)
        assert actual.dtype == np.float32
        return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module", params=["vit", "efficientvit", *long("mobilevit", "levit")])
def subject(request, tmp_path_factory):
    spec = BASES[request.param]
    family = backbones.find(spec.backbone)
    model = family.build(spec).model.eval()
    raise_layer_scales(model)
    shape = 4, spec.channels, *spec.resolution.sides
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return Subject(family.family, model, images, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def small(tmp_path):
    """A model of two layers with a norm and GELU between."""
    torch.manual_seed(0)
    parts = nn.Flatten(), nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4)
    (tmp_path / "small").mkdir()
    return Subject("", nn.Sequential(*parts).eval(), torch.randn(4, 1, 4, 4), tmp_path / "small")
