"""Print how fast this machine loads data, trains and predicts, in CPU-seconds of one thread.

    PYTHONPATH=search:evaluators python tools/measure_training.py

The model is the committed base (ViT, width 192, 6 blocks, 50 tokens), the data the committed subset.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, load
from vitsearch.training import fine_tune, inference
from vitsearch.training.optimizer import training_precision

WEIGHTS = Path(str(resources.files("vitsearch") / "assets")) / "vit_fmnist_p4.safetensors"
SIZES = {"img_size": 28, "patch_size": 4, "in_chans": 1, "embed_dim": 192, "depth": 6, "num_heads": 6}
RECIPE = Recipe((0, 1), 1280, 64, 1e-4, 0.05, 4, 0.5, 2.0, 0)


def base() -> nn.Module:
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=10, **SIZES)
    if WEIGHTS.is_file():
        model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return model.eval()


def timed(what: str, images: int, call: Callable[[], object]) -> None:
    start = time.process_time()
    call()
    used = time.process_time() - start
    rate = f", {images / used:.0f} images per CPU-second" if images else ""
    print(f"{what}: {used:.2f} CPU-s{rate}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    timed("load builtin:fashion-mnist-14k", 0, lambda: load(DataSpec("builtin:fashion-mnist-14k")).identity)
    data = load(DataSpec("builtin:fashion-mnist-14k"))
    images, labels = data.train.images[:1280], data.train.labels[:1280]
    seen = Preprocessing(data.mean, data.std)
    for precision in ("fp32", "bf16"):
        predict = lambda p=precision: inference.predict_logits(base(), images, ImageSize.square(28), seen, precision=p)  # noqa: E731
        timed(f"predict {precision}", len(images), predict)
    logits = inference.predict_logits(base(), images, ImageSize.square(28), seen)
    task = fine_tune.TrainingSpec(images, labels, ImageSize.square(28), seen, RECIPE, 1.0, teacher_outputs=logits)
    print(f"training precision here: {training_precision(base(), 'cpu')}")
    timed("fine-tune, cached logits", len(images), lambda: fine_tune.fine_tune(base(), task))
    labels_only = dataclasses.replace(task, teacher_outputs=None)
    timed("fine-tune, labels only", len(images), lambda: fine_tune.fine_tune(base(), labels_only))
    for name, split in (("validation", data.validation), ("test", data.test)):
        if split is not None:
            logits = inference.predict_logits(base(), split.images, ImageSize.square(28), seen)
            print(f"accuracy, {name}: {inference.accuracy(logits, split.labels):.4f} of {len(split)}")


if __name__ == "__main__":
    main()
