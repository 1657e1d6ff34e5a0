"""What another tool would do: train a small torchvision network for a minute, and write it as an ONNX file.

    python examples/onnx_file/train_and_export.py        # writes resnet_fmnist.onnx and its classes here

Nothing but torch and torchvision is used, besides the images that ship with vitsearch. space.yaml searches the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from vitsearch.data.fashion_mnist import CLASS_NAMES, MEAN, STD, subset_split

STEPS, BATCH, LEARNING_RATE = 600, 64, 3e-3
CLASSES = sorted(CLASS_NAMES)
"""An order of its own, as other tools have: labels.txt says which logit is which class."""


def network() -> nn.Module:
    """A ResNet of one block in each of three stages, for grey images."""
    model: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=len(CLASSES))
    model.conv1 = nn.Conv2d(1, 64, 5, stride=2, padding=2, bias=False)
    model.layer4, model.fc = nn.Identity(), nn.Linear(256, len(CLASSES))
    return model


def normalised(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, height, width, 1) as float32 (n, 1, height, width), the way space.yaml says it."""
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]


def train(model: nn.Module, steps: int) -> None:
    split = subset_split("train")
    images = torch.from_numpy(split.images)
    places = torch.tensor([CLASSES.index(name) for name in CLASS_NAMES])
    labels = places[torch.from_numpy(split.labels).long()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,))
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(normalised(images[rows])), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def main(steps: int = STEPS) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads that share cores with other programs wait for each other
    model = network()
    train(model, steps)
    example = (torch.zeros(1, 1, 28, 28),)
    axes = {"pixels": {0: "n"}, "scores": {0: "n"}}
    torch.onnx.export(
        model.eval(),
        example,
        "resnet_fmnist.onnx",
        dynamo=False,
        input_names=["pixels"],
        output_names=["scores"],
        dynamic_axes=axes,
    )
    Path("labels.txt").write_text("\n".join(CLASSES) + "\n")
    print("wrote resnet_fmnist.onnx and labels.txt")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
