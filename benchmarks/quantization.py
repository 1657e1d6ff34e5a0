"""Print what each precision costs and gains, as Markdown tables.

For the plain ViT base that ships with vitsearch, for the same model with outliers, and for DeiT-tiny at 197 tokens
(random weights, cost only).

python benchmarks/quantization.py
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from timing import ROUNDS, cpu_ms
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress.quantization import fake_quant, quantize, sensitivity
from vitsearch.compress.quantization.layers import Coverage
from vitsearch.core import precisions
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import QuantizationAware, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import sensitive_layers
from vitsearch.data.fashion_mnist import subset_split
from vitsearch.data.tensors import to_tensor
from vitsearch.export import evaluate
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.tasks import CLASSIFICATION
from vitsearch.testing.outliers import add_outliers
from vitsearch.training import fine_tune, inference

MEAN, STD = (0.286,), (0.353,)
RECIPE = Recipe((0, 2), 2048, 64, 1e-4, 0.05, 8, 0.5, 2.0, 0)
"""Two epochs of 2048 images, distilled from the original model."""
SETTINGS = QuantizationAware()
FACTOR, CHANNELS = 60.0, 4
CALIBRATION_IMAGES = 32
MODELS = {
    "base": "vit_fmnist_p4, the base",
    "outliers": f"vit_fmnist_p4, {CHANNELS} channels of each norm times {FACTOR:g}",
    "deit": "deit_tiny_patch16_224, random weights",
}
HEAD = ("precision", "accuracy", "CPU ms", "of fp32", "size MB")


class Data:
    """The 14,000 images of Fashion-MNIST that ship with vitsearch."""

    def __init__(self) -> None:
        train, validation = subset_split("train"), subset_split("validation")
        self.train, self.train_labels = train.images, train.labels
        self.validation, self.labels = validation.images, validation.labels
        chosen = np.random.default_rng(0).permutation(len(self.train))[:CALIBRATION_IMAGES]
        self.calibration = to_tensor(self.train[chosen], ImageSize.square(28), Preprocessing(MEAN, STD))

    def accuracy(self, path: Path) -> float:
        inputs = to_tensor(self.validation, ImageSize.square(28), Preprocessing(MEAN, STD)).numpy()
        return inference.accuracy(evaluate.logits(path, inputs, 100), self.labels)

    def task(self, teacher: nn.Module) -> fine_tune.TrainingSpec:
        recipe = SETTINGS.recipe(RECIPE, "vit_fmnist_p4")
        pool = fine_tune.training_pool(np.arange(len(self.train)), recipe)
        logits = inference.predict_logits(
            teacher, self.train, ImageSize.square(28), Preprocessing(MEAN, STD), rows=pool
        )
        return fine_tune.TrainingSpec(
            images=self.train,
            labels=self.train_labels,
            resolution=ImageSize.square(28),
            preprocessing=Preprocessing(MEAN, STD),
            recipe=recipe,
            epochs=SETTINGS.epochs(recipe.rungs[-1]),
            teacher_outputs=logits,
            pool=pool,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        print(f"\n{MODELS[name]}\n")
        with tempfile.TemporaryDirectory() as folder:
            if name == "deit":
                show(deit(Path(folder)), options.rounds)
            else:
                data = Data()
                show(fashion(base(with_outliers=name == "outliers"), data, Path(folder)), options.rounds, data)


def base(with_outliers: bool) -> nn.Module:
    spec = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)
    model = backbones.find("vit_fmnist_p4").build(spec).model
    if with_outliers:
        add_outliers(model, FACTOR, CHANNELS)
    return model


def fashion(model: nn.Module, data: Data, folder: Path) -> dict[str, Path]:
    """Files by precision, and two files of a model that was trained equally long without rounding."""
    images, task = data.calibration, data.task(model)
    rounded, tuned = copy.deepcopy(model), copy.deepcopy(model)
    fake_quant.prepare(rounded, [images])
    for subject, how in ((rounded, "with"), (tuned, "without")):
        print(f"{how} rounding: {fine_tune.fine_tune(subject, task).cpu_seconds:.0f} CPU-s  ")
    print()
    files = {
        name: made(rounded if name in precisions.TRAINED else model, name, images, folder) for name in every_precision()
    }
    (folder / "tuned").mkdir()
    also = {
        f"{name}, trained equally long": made(tuned, name, images, folder / "tuned") for name in ("fp32", "int8_ptq")
    }
    return files | also


def deit(folder: Path) -> dict[str, Path]:
    """Files by precision. int8_qat takes two steps on noise, because its cost does not depend on weights or ranges."""
    model = (
        backbones.find("deit_tiny_patch16_224")
        .build(ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(224), 1000))
        .model
    )
    images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    rounded = copy.deepcopy(model)
    fake_quant.prepare(rounded, [images])
    pixels, labels = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8), np.arange(8)
    recipe = Recipe((0, 1), 8, 4, 1e-4, 0.05, 0, 0.0, 1.0, 0)
    fine_tune.fine_tune(
        rounded,
        fine_tune.TrainingSpec(pixels, labels, ImageSize.square(224), Preprocessing((0.5,) * 3, (0.5,) * 3), recipe, 1),
    )
    return {
        name: made(rounded if name in precisions.TRAINED else model, name, images, folder) for name in every_precision()
    }


def every_precision() -> tuple[str, ...]:
    return precisions.precisions_on("onnxruntime", "cpu")


def made(model: nn.Module, precision: str, images: torch.Tensor, folder: Path) -> Path:
    plain, final = folder / "plain.onnx", folder / f"{precision}.onnx"
    with fake_quant.unrounded(model):
        write_onnx(model, tuple(images.shape), plain)
    sensitive: tuple[str, ...] = ()
    if precision in precisions.MIXED:
        sensitive = sensitive_layers(sensitivity.rounding_sensitivity(model, images, CLASSIFICATION))
    covered = Coverage(left=fake_quant.weights_of(model, sensitive))
    quantize.quantize(plain, final, precision, images.numpy(), fake_quant.learned(model), covered)
    return final


def show(files: dict[str, Path], rounds: int, data: Data | None = None) -> None:
    for line in lines(files, rounds, data):
        print("| " + " | ".join(line) + " |", flush=True)


def lines(files: dict[str, Path], rounds: int, data: Data | None) -> Iterator[tuple[str, ...]]:
    head = tuple(cell for cell in HEAD if data or cell != "accuracy")
    yield head
    yield ("---",) * len(head)
    cost = cpu_ms(files, rounds)
    for name, path in files.items():
        accuracy = (f"{data.accuracy(path):.4f}",) if data else ()
        yield (
            name,
            *accuracy,
            f"{cost[name]:.2f}",
            f"{cost[name] / cost['fp32']:.2f}",
            f"{path.stat().st_size / 1e6:.2f}",
        )


if __name__ == "__main__":
    main()
