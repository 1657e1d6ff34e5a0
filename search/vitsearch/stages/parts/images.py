"""The images that stages read, and the logits of a model on them.

Data is loaded once and stays in the memory of the worker for the next stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitsearch import data
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import ModelView
from vitsearch.data.arrays import Bytes, Floats, Labels, Truths
from vitsearch.data.tensors import to_tensor
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.job import PseudoLabels, Workspace
from vitsearch.stages.parts import pseudo_labels
from vitsearch.tasks import Truth
from vitsearch.training import inference

EVALUATION_BATCH = 100


Spec = tuple[tuple[str, object], ...]
"""The section `task.data`, as a key of what was loaded."""


@lru_cache(maxsize=2)
def _load_data(spec: Spec, cache: Path) -> data.ImageData:
    return data.load(data.DataSpec.from_json(dict(spec)), cache)


@lru_cache(maxsize=2)
def _labelled(spec: Spec, cache: Path, labels: PseudoLabels) -> tuple[data.ImageData, Floats]:
    return pseudo_labels.labelled(_load_data(spec, cache), labels, cache)


def load_data(workspace: Workspace) -> data.ImageData:
    if workspace.labels is None:
        return _load_data(_spec(workspace), workspace.cache)
    return _labelled(_spec(workspace), workspace.cache, workspace.labels)[0]


def own_data(workspace: Workspace) -> data.ImageData:
    """The data as it is, without the labels of a network."""
    return _load_data(_spec(workspace), workspace.cache)


def own_logits(workspace: Workspace) -> Floats | None:
    """The logits that label the validation images, (N, classes); None where these have labels."""
    if workspace.labels is None:
        return None
    return _labelled(_spec(workspace), workspace.cache, workspace.labels)[1]


def holdout_truth(workspace: Workspace, reference_sha256: str | None) -> Truth:
    """What the outputs for the holdout are judged by, with the file of what the reference of the study gives."""
    images = load_data(workspace)
    return _truth(workspace, images.train.labels[images.holdout], reference_sha256)


def validation_truth(workspace: Workspace, reference_sha256: str | None) -> Truth:
    """The same for the validation images."""
    return truth_of(load_data(workspace).validation, workspace, reference_sha256)


def truth_of(split: data.Split, workspace: Workspace, reference_sha256: str | None) -> Truth:
    """The same for the images of a split."""
    return _truth(workspace, split.labels, reference_sha256)


def _truth(workspace: Workspace, labels: Truths, reference_sha256: str | None) -> Truth:
    reference = None if reference_sha256 is None else np.load(workspace.store.get(reference_sha256), mmap_mode="r")
    has_labels = workspace.labels is not None or data.DataSpec.from_json(dict(workspace.data)).is_labelled
    return Truth(labels if has_labels else None, load_data(workspace).class_names, reference)


def _spec(workspace: Workspace) -> Spec:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in workspace.data.items()}
    return tuple(sorted(values.items()))


def torch_device() -> str:
    """`cuda` if this worker has a GPU: the runner hides the GPUs from a worker that was given none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def blank(resolution: ImageSize, workspace: Workspace) -> torch.Tensor:
    """One image of zeros, (1, C, H, W), for functions that only need its shape."""
    return torch.zeros(1, load_data(workspace).identity.channels, *resolution.sides)


def drawn_rows(images: data.ImageData, wanted: Calibration) -> Labels:
    """Rows of the training images drawn for `wanted`, none of the holdout; all of them if there are fewer."""
    order = np.random.default_rng(wanted.seed).permutation(images.learned)
    return (order if wanted.purpose == "fit" else order[::-1])[: wanted.images]


def drawn(workspace: Workspace, wanted: Calibration, view: ModelView, device: str = "cpu") -> torch.Tensor:
    """The training images drawn for `wanted`, as the model of `view` reads them, float32 (N, C, H, W)."""
    images = load_data(workspace)
    return _tensor(images.train.images[drawn_rows(images, wanted)], view, device)


def drawn_batches(workspace: Workspace, wanted: Calibration, view: ModelView) -> Iterator[torch.Tensor]:
    """The same images as `drawn`, in batches (n, C, H, W) on the CPU."""
    images = load_data(workspace)
    return map(torch.from_numpy, batches(images.train.images[drawn_rows(images, wanted)], view))


def batches(images: Bytes, view: ModelView) -> Iterator[Floats]:
    """`images` uint8 (N, H, W, C) as the model of `view` reads them, in batches (n, C, H, W) of `EVALUATION_BATCH`, so
    that a large split is never in memory as floats."""
    for start in range(0, len(images), EVALUATION_BATCH):
        yield _tensor(images[start : start + EVALUATION_BATCH], view).numpy()


def _tensor(images: Bytes, view: ModelView, device: str = "cpu") -> torch.Tensor:
    return to_tensor(images, view.resolution, view.preprocessing, device)


def predict(model: nn.Module, images: Bytes, view: ModelView, rows: Labels | None = None) -> Floats:
    """Logits (N, classes) of the `images`, or of their `rows`. Moves `model` to the worker's device."""
    model.to(torch_device())
    return inference.predict_logits(model, images, view.resolution, view.preprocessing, rows=rows)
