"""A new user's folder: stopped by `check` while it can be read in two ways, and told afterwards."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.data.fashion_mnist import subset_split
from vitsearch.errors import SpaceError

CLASSES = {"ok": 800, "scratch": 260, "dent": 90}
SPACE = """
study: parts
task:
  data: {source: folder, root: ROOT}
objectives: {accuracy: maximize, cpu_ms_p50: minimize}
space:
  backbone: vit_fmnist_p4
  resolution: 28
"""


@pytest.fixture
def photos(tmp_path) -> Path:
    """1,150 pictures, every fifth of a class in Valid, the others in Train."""
    split = subset_split("train")
    for label, (name, count) in enumerate(CLASSES.items()):
        for number, row in enumerate(np.flatnonzero(split.labels == label)[:count]):
            folder = tmp_path / "photos" / ("Valid" if number % 5 == 4 else "Train") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.images[row, :, :, 0]).save(folder / f"{number:03}.png")
    (tmp_path / "parts.yaml").write_text(SPACE.replace("ROOT", str(tmp_path / "photos")))
    return tmp_path / "photos"


def check(photos: Path, *arguments: str):
    return CliRunner().invoke(app, ["check", "--no-costs", str(photos.parent / "parts.yaml"), *arguments])


def test_1150_images_in_train_and_valid_are_stopped_then_told_by_class_and_split(photos):
    stopped = check(photos)
    assert isinstance(stopped.exception, SpaceError)
    (problem,) = stopped.exception.problems
    assert "'Train', 'Valid', called like splits" in problem
    lines = [line.strip() for line in problem.splitlines()]
    for line in (line for line in lines if line.startswith("mv ")):
        _, start, end = shlex.split(line)
        Path(start).rename(end)
    done = check(photos)
    assert done.exit_code == 0, done.output
    assert "train: 920 images, folder train" in done.stdout
    assert "validation: 230 images, folder val" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert rows == [
        ["class", "train", "holdout", "validation", "test"],
        ["dent", "72", "7", "18", "-"],
        ["ok", "640", "64", "160", "-"],
        ["scratch", "208", "21", "52", "-"],
    ]
    assert "warning: unequal classes in train: 'ok' 640 images, 'dent' 72 (8.9 to 1)" in done.stderr


def test_the_folders_can_be_named_where_they_cannot_be_renamed(photos):
    done = check(photos, "task.data.train_split=Train", "task.data.validation_split=Valid", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {row["name"]: (row["train"], row["validation"]) for row in said["data"]["classes"]} == {
        "dent": (72, 18),
        "ok": (640, 160),
        "scratch": (208, 52),
    }
    assert said["data"]["splits"]["train"]["source"] == "folder Train"
    assert any(warning.startswith("unequal classes in train") for warning in said["warnings"])


def test_valid_beside_train_is_not_replaced_by_a_share_of_train(photos):
    (photos / "Train").rename(photos / "train")
    stopped = check(photos)
    assert f"mv {photos}/Valid {photos}/val; or set data.validation_split: Valid" in str(stopped.exception)


def with_devices(photos: Path, text: str) -> Path:
    """The file of the photos, in a form that is fine, with devices."""
    for wrong, right in (("Train", "train"), ("Valid", "val")):
        (photos / wrong).rename(photos / right)
    path = photos.parent / "parts.yaml"
    path.write_text(f"{path.read_text()}{text}\n")
    return path


def test_each_address_that_gets_a_token_is_shown(photos, monkeypatch):
    monkeypatch.setenv("VITSEARCH_NANO", "s" * 64)
    with_devices(photos, "devices: {nano: {url: 'http://nano.example:8470', token: 'env:VITSEARCH_NANO'}}")
    done = check(photos)
    assert done.exit_code == 0, done.output
    assert "would end at once" not in done.stdout
    assert (
        "device nano: nano.example:8470 gets the token in VITSEARCH_NANO, unencrypted: who is on the way can read it."
        in done.stdout.splitlines()
    )
    assert json.loads(check(photos, "--json").stdout)["tokens"] == [
        {"device": "nano", "address": "nano.example:8470", "variable": "VITSEARCH_NANO", "private": False}
    ]


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_asks_for_the_secret_of_another_program_is_refused(photos, monkeypatch, command):
    monkeypatch.setenv("GITHUB_TOKEN", "s" * 64)
    path = with_devices(photos, "devices: {nano: {url: 'https://evil.example', token: 'env:GITHUB_TOKEN'}}")
    done = CliRunner().invoke(app, [command, str(path)])
    line = len(path.read_text().splitlines())
    problem = (
        f"line {line}: devices.nano.token: 'env:GITHUB_TOKEN' may hold a secret of another program; allowed: names "
        "that begin with env:VITSEARCH_"
    )
    assert problem in (done.output if command == "check" else done.exception.problems)
