"""What a draw without groups hides: the accuracy of one small network on a folder of objects in four variants each.

    python benchmarks/groups.py               # 1,000 objects, three draws
    python benchmarks/groups.py --draws 1

Writes Fashion-MNIST images, each in two crops and two brightnesses, and trains the same network on draws with and
without `task.data.group`. Other objects in the same variants say which validation accuracy is true.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, ImageData, Split, load, review

CORNERS = ((2, 3), (5, 5))
LIGHTS = (1.0, 0.75)
EPOCHS = 20


def variants(image: np.ndarray) -> list[np.ndarray]:
    """Two crops in two brightnesses of a grey image of 28 x 28."""
    padded = np.pad(image, 4)
    return [
        (padded[top : top + 28, left : left + 28] * light).astype(np.uint8) for top, left in CORNERS for light in LIGHTS
    ]


def write(split: Split, names: tuple[str, ...], objects: int, folder: Path) -> None:
    for row in range(min(objects, len(split))):
        where = folder / names[int(split.labels[row])].replace("/", "-")
        where.mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(variants(np.asarray(split.images[row, ..., 0]))):
            Image.fromarray(pixels).save(where / f"item{row:04}_{number}.png")


def tensors(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = np.asarray(split.images)[..., 0][:, None] / 255 - 0.3
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(np.asarray(split.labels))


def trained(data: ImageData) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU()),
        *(nn.Conv2d(24, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(48 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    images, labels = (each[data.learned] for each in tensors(data.train))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(images)), 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, split: Split) -> float:
    images, labels = tensors(split)
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def accuracies(spec: DataSpec) -> tuple[float, float]:
    """On the validation images of a draw, and on other objects."""
    data = load(spec)
    model = trained(data)
    assert data.test is not None
    return accuracy(model, data.validation), accuracy(model, data.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000, metavar="N", help="objects, in four variants each")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="draws of the validation images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = load(DataSpec("builtin:fashion-mnist-14k"))
    with tempfile.TemporaryDirectory() as folder:
        write(source.train, source.class_names, options.objects, Path(folder) / "train")
        write(source.validation, source.class_names, options.objects, Path(folder) / "test")
        size = ImageSize.square(28)
        plain = DataSpec("folder", root=folder, image_size=size, validation_share=0.25)
        for spec in (plain, replace(plain, group="(.*)_[^/_]*$")):
            print(f"group: {spec.group}")
            for line in review.review(spec).warnings:
                print(f"  {line}")
            found = np.array([accuracies(replace(spec, seed=seed)) for seed in range(options.draws)])
            for own, others in found:
                print(f"  accuracy: {own:.3f} on validation images, {others:.3f} on other objects")
            own, others = found.mean(axis=0)
            print(f"  mean of {options.draws}: {own:.3f} and {others:.3f}, {own - others:+.3f}")


if __name__ == "__main__":
    main()
