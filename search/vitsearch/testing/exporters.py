"""A conformance test of exporters: subclass `ExporterTests` and set `runtime`.

    class TestMyExporter(ExporterTests):
        runtime = "my_runtime"

The exporter is found by that name in `vitsearch.export.EXPORTERS`, so an entry point is tested too. Tests are
skipped where the machine lacks what writes the files (`missing`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import ALL, LINEAR, TRAINED, provider_for
from vitsearch.core.targets import TARGETS
from vitsearch.export import EXPORTERS, ExportTask, evaluate
from vitsearch.export.base import PARITY_LIMIT, Exporter
from vitsearch.export.processor import saturates_int8
from vitsearch_agent.artifacts import model_files

IMAGES = 32
ROUNDING = 0.2
"""Of the norm of the logits: random weights have no margin, so this only finds a broken graph."""


class Small(nn.Module):
    """Two convolutions, a norm, a linear layer and a classifier; wide enough to be quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 4, stride=4), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
        self.norm = nn.LayerNorm(32)
        self.hidden = nn.Linear(32, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.stem(images).flatten(2).transpose(1, 2))
        logits: torch.Tensor = self.head(nn.functional.gelu(self.hidden(tokens)).mean(1))
        return logits


class ExporterTests:
    """What every exporter guarantees.

    Attributes:
        runtime: The name of the exporter in `vitsearch.export.EXPORTERS`.
    """

    runtime: ClassVar[str]

    @pytest.fixture
    def exporter(self) -> Exporter:
        exporter: Exporter = EXPORTERS.get(self.runtime)()
        if reason := exporter.missing():
            pytest.skip(reason)
        return exporter

    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return Small().eval()

    @pytest.fixture
    def images(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((IMAGES, 3, 16, 16)).astype(np.float32)

    def task(self, images: np.ndarray, precision: str, batch: int | None = 1) -> ExportTask:
        provider = provider_for(self.runtime, precision)
        return ExportTask("vit", Deployment("local", self.runtime, provider, precision, batch), images)

    def test_a_precision_is_supported_or_refused_in_a_sentence(self, exporter: Exporter) -> None:
        supported = set(TARGETS[self.runtime].precisions)
        for precision in {*supported, "fp7"}:
            reason = exporter.supports("vit", precision)
            assert reason is None if precision in supported else reason

    def test_every_precision_gives_a_file_that_computes_what_torch_does(
        self, exporter: Exporter, model: nn.Module, images: np.ndarray, tmp_path: Path
    ) -> None:
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).numpy()
        for precision in TARGETS[self.runtime].precisions:
            if precision in TRAINED or (precision.startswith("int8") and saturates_int8()):
                continue
            folder = tmp_path / precision
            folder.mkdir()
            task = self.task(images, precision)
            file = exporter.export(model, task, folder)
            assert all(Path(path).is_file() for path in model_files(str(file.path)).values())
            path, job = evaluate.judging_job(file, task.deployment)
            logits = evaluate.logits(path, images, 1, job=job)
            limit = PARITY_LIMIT if precision == "fp32" else ROUNDING
            off = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
            assert logits.shape == expected.shape
            assert off <= limit, f"{precision}: {off:.2g}"

    def test_int8_covers_the_layers_of_the_deployment(
        self, exporter: Exporter, model: nn.Module, images: np.ndarray, tmp_path: Path
    ) -> None:
        """Files that quantize convolutions too are smaller, and compute what torch does."""
        if saturates_int8():
            pytest.skip("this processor saturates products of int8")
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).numpy()
        for precision, choices in TARGETS[self.runtime].quantized_ops.items():
            sizes = {}
            for ops in choices if precision not in TRAINED else ():
                folder = tmp_path / f"{precision}-{ops}"
                folder.mkdir()
                task = self.task(images, precision)
                task = replace(task, deployment=replace(task.deployment, quantized_ops=ops))
                file = exporter.export(model, task, folder)
                path, job = evaluate.judging_job(file, task.deployment)
                off = np.linalg.norm(evaluate.logits(path, images, 1, job=job) - expected) / np.linalg.norm(expected)
                assert off <= ROUNDING, f"{precision} of {ops}: {off:.2g}"
                sizes[ops] = sum(Path(written).stat().st_size for written in model_files(str(file.path)).values())
            assert len(sizes) < 2 or sizes[ALL] < sizes[LINEAR], precision

    def test_the_batch_is_that_of_the_deployment(
        self, exporter: Exporter, model: nn.Module, images: np.ndarray, tmp_path: Path
    ) -> None:
        if not TARGETS[self.runtime].open_batch:
            pytest.skip(f"files of {self.runtime} have a fixed batch")
        task = self.task(images, "fp32", None)
        path, job = evaluate.judging_job(exporter.export(model, task, tmp_path), task.deployment)
        single, batched = (evaluate.logits(path, images, batch, job=job) for batch in (1, IMAGES))
        np.testing.assert_allclose(single, batched, atol=1e-4)

    def test_a_file_of_more_images_than_there_are_to_calibrate_computes_each_as_a_file_of_one(
        self, exporter: Exporter, model: nn.Module, images: np.ndarray, tmp_path: Path
    ) -> None:
        for precision in {"fp32", "int8_ptq"} & set(TARGETS[self.runtime].precisions):
            logits = []
            for batch in (1, IMAGES + 1):
                task, folder = self.task(images, precision, batch), tmp_path / f"{precision}-{batch}"
                folder.mkdir()
                path, job = evaluate.judging_job(exporter.export(model, task, folder), task.deployment)
                logits.append(evaluate.logits(path, images, batch, job=job))
            off = np.linalg.norm(logits[1] - logits[0]) / np.linalg.norm(logits[0])
            assert off <= (1e-4 if precision == "fp32" else ROUNDING), f"{precision}: {off:.2g}"

    def test_the_model_is_not_changed(
        self, exporter: Exporter, model: nn.Module, images: np.ndarray, tmp_path: Path
    ) -> None:
        model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        exporter.export(model, self.task(images, "fp32"), tmp_path)
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
