"""Logits, features and accuracy of a model in torch."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.arrays import Bytes, Floats, Labels, Truths
from vitsearch.data.tensors import to_tensor
from vitsearch.training.distillation import Features
from vitsearch.training.optimizer import Precision, autocast


def predict_logits(
    model: nn.Module,
    images: Bytes,
    resolution: ImageSize,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    precision: Precision = "fp32",
    rows: Labels | None = None,
) -> Floats:
    """Logits, float32 (N, classes), of uint8 images (N, H, W, C), or of their `rows`; computed where the model is.

    Images are read batch by batch, so they may be a memory map. `model` predicts in evaluation mode and gets its mode
    back. `bf16` uses autocast, for teachers and quick estimates; reported accuracies are fp32.
    """
    device = next(itertools.chain(model.parameters(), model.buffers())).device  # an ONNX file has no parameters
    count = len(images) if rows is None else len(rows)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(device.type, precision):
            parts = []
            for at in range(0, count, batch_size):
                wanted = slice(at, at + batch_size)
                batch = images[wanted if rows is None else rows[wanted]]
                parts.append(model(to_tensor(batch, resolution, preprocessing, device)).float().cpu())
    finally:
        model.train(was_training)
    logits: Floats = torch.cat(parts).numpy()
    return logits


def predict_features(
    model: nn.Module,
    images: Bytes,
    resolution: ImageSize,
    preprocessing: Preprocessing,
    rows: Labels | None = None,
) -> Floats:
    """Inputs of the classifier of `model`, float32 (N, width); otherwise like `predict_logits`."""
    return predict_logits(Features(model), images, resolution, preprocessing, rows=rows)


def accuracy(logits: Floats, labels: Truths) -> float:
    """Share of the rows of `logits` (N, classes) whose largest logit is that of the label, in [0, 1]."""
    return float(np.mean(logits.argmax(axis=1) == labels))
