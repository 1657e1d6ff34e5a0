"""A training that was killed goes on after the last epoch that had ended, and gives the same weights."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import timm
import torch

from support import PYTHON_PATH
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.training import fine_tune
from vitsearch.training.checkpoint import Checkpoint

EPOCHS = 4
RECIPE = Recipe((0, EPOCHS), 64, 16, 2e-3, 0.05, 2, 0.0, 2.0, 0, augmentation=Augmentation(flip=0.5, crop=0.5))
"""Its images and its dropout depend on the random state of every step."""


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "of" / "a_base")


def tiny(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    options = {"drop_rate": 0.2, "drop_path_rate": 0.2}
    return timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, **sizes, **options)


def task(images: int = 64) -> fine_tune.TrainingSpec:
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (images, 28, 28, 1), np.uint8), draw.integers(0, 10, images)
    seen = Preprocessing((0.5,), (0.25,))
    return fine_tune.TrainingSpec(pixels, labels, ImageSize.square(28), seen, RECIPE, float(EPOCHS))


class Killed(Exception):
    """Instead of a signal, which would end the tests too."""


def train(checkpoint: Checkpoint | None, model: torch.nn.Module, dies_in: int | None = None) -> Counter[str]:
    """Train until step `dies_in`; returns the number of forward passes."""
    counts: Counter[str] = Counter()

    def count(*_: object) -> None:
        counts["steps"] += 1
        if counts["steps"] == dies_in:
            raise Killed

    handle = model.register_forward_pre_hook(count)
    try:
        counts["loss"] = fine_tune.fine_tune(model, task(), checkpoint).loss_last
    except Killed:
        assert dies_in is not None
    handle.remove()
    return counts


@pytest.mark.parametrize("dies_in", [1, 4, 5, 11, 16])
def test_what_was_trained_before_is_not_trained_again(checkpoint, dies_in):
    """Four epochs of four steps each."""
    whole = tiny()
    report = fine_tune.fine_tune(whole, task())
    assert report.steps == 16
    train(checkpoint, tiny(), dies_in)
    resumed = tiny(seed=1)  # its own weights do not matter unless the first epoch had not ended
    if dies_in <= 4:
        resumed.load_state_dict(tiny().state_dict())
    counts = train(checkpoint, resumed)
    assert counts["steps"] == 16 - (dies_in - 1) // 4 * 4
    assert counts["loss"] == report.loss_last
    assert all(torch.equal(mine, other) for mine, other in zip(
        resumed.state_dict().values(), whole.state_dict().values(), strict=True
    ))  # fmt: skip


def test_the_average_of_a_resumed_training_is_that_of_a_whole_one(checkpoint):
    whole = fine_tune.fine_tune(tiny(), task())
    train(checkpoint, tiny(), 10)
    resumed = fine_tune.fine_tune(tiny(), task(), checkpoint)
    assert resumed == dataclasses.replace(whole, cpu_seconds=resumed.cpu_seconds)
    assert all(torch.equal(value, whole.average[name]) for name, value in resumed.average.items())


def test_a_training_that_had_ended_takes_no_step(checkpoint):
    train(checkpoint, tiny())
    assert train(checkpoint, tiny())["steps"] == 0


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:5000] + b"?" + data[5001:], lambda _: b""]
)
def test_a_damaged_checkpoint_is_not_believed(checkpoint, damage, warnings_of):
    warnings = warnings_of("vitsearch.training.checkpoint")
    train(checkpoint, tiny(), 10)
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    assert train(checkpoint, tiny())["steps"] == 16
    assert warnings == [f"{checkpoint.path} is damaged: the training begins again"]


def test_a_checkpoint_of_another_architecture_is_not_believed(checkpoint):
    train(checkpoint, tiny(), 10)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    other = timm.create_model("vit_tiny_patch16_224", embed_dim=16, depth=2, num_heads=2, **sizes)
    assert train(checkpoint, other)["steps"] == 16


KILLED = """
import sys
from pathlib import Path
import test_checkpoint
from vitsearch.training.checkpoint import Checkpoint
test_checkpoint.train(Checkpoint(Path(sys.argv[1])), test_checkpoint.tiny())
"""


@pytest.mark.long
def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_checkpoint(checkpoint):
    """Also while it writes one."""
    whole = tiny()
    fine_tune.fine_tune(whole, task())
    random.seed(seed := time.time_ns())
    print(f"seed {seed}")  # shown when the test fails
    path = os.pathsep.join([os.path.dirname(__file__), *map(str, PYTHON_PATH.split(os.pathsep))])
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(checkpoint.path)]
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as process:
            while process.poll() is None and not checkpoint.path.exists():
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
    resumed = tiny()
    assert train(checkpoint, resumed)["steps"] <= 12
    pairs = zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs)
