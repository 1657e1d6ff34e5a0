"""Warnings about data that judges badly, for each kind of source."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsearch.data import DataSpec, review
from vitsearch.data.fashion_mnist import SUBSET_ASSET


def images(folder: Path, counts: dict[str, int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes, large enough to judge, without copies."""
    images(tmp_path / "train", {"bolt": 12, "nut": 12}, seed=1)
    images(tmp_path / "val", {"bolt": 10, "nut": 10}, seed=2)
    return tmp_path


def warnings(root: Path, source: str = "folder") -> list[str]:
    return review.review(DataSpec(source, root=str(root), image_size=8)).warnings


@pytest.mark.parametrize("source", ["folder", "torch/image_folder"])
def test_clean_data_gives_no_warning(root, source):
    assert warnings(root, source) == []


def test_the_builtin_data_gives_no_warning():
    assert review.review(DataSpec("builtin:fashion-mnist-14k")).warnings == []


def test_validation_images_that_also_train_are_named(root):
    shutil.copy(root / "train" / "bolt" / "03.png", root / "val" / "bolt" / "copy.png")
    (line,) = warnings(root)
    assert line.startswith("1 of 21 validation images are also training images")
    assert line.endswith("val/bolt/copy.png is train/bolt/03.png")


def test_copies_are_found_in_sets_that_timm_reads(root):
    shutil.copy(root / "train" / "bolt" / "00.png", root / "val" / "bolt" / "copy.png")
    (line,) = warnings(root, "torch/image_folder")
    assert "image 10 of torch/image_folder, split 'val' is image 0 of torch/image_folder, split 'train'" in line


def test_copies_are_found_in_tar_files(root):
    shutil.copy(root / "train" / "nut" / "00.png", root / "val" / "nut" / "copy.png")
    for name, split in (("train", "train"), ("val", "validation")):
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            archive.add(root / name, arcname=".")
    assert any("are also training images" in line for line in warnings(root, "tar"))


def test_copies_are_found_in_the_builtin_data(tmp_path, monkeypatch):
    with np.load(SUBSET_ASSET) as arrays:
        changed = dict(arrays)
    changed["validation_images"][7] = changed["train_images"][5]
    changed["validation_labels"][7] = changed["train_labels"][5]
    np.savez(tmp_path / "changed.npz", **changed)
    monkeypatch.setattr("vitsearch.data.fashion_mnist.SUBSET_ASSET", tmp_path / "changed.npz")
    (line,) = review.review(DataSpec("builtin:fashion-mnist-14k")).warnings
    assert line.endswith("image 7 of validation is image 5 of train")


def test_one_image_under_two_labels_is_named(root):
    shutil.copy(root / "train" / "bolt" / "00.png", root / "train" / "nut" / "same.png")
    (line,) = warnings(root)
    assert line == "images with more than one label (1): train/bolt/00.png as 'bolt', train/nut/same.png as 'nut'"


def test_classes_with_few_validation_images_are_named_with_their_numbers(root):
    for number in range(7):
        (root / "val" / "nut" / f"{number:02}.png").unlink()
    (line,) = warnings(root)
    assert line.startswith("too few validation images to judge 1 of 2 classes: 'nut' 3; with fewer than 10, one image")


def test_held_out_images_are_counted_too(tmp_path):
    images(tmp_path, {"bolt": 34, "nut": 102}, seed=3)
    (line,) = warnings(tmp_path)
    assert "1 of 2 classes: 'bolt' 3;" in line


def test_a_set_that_is_too_large_to_compare_says_so(root, monkeypatch):
    monkeypatch.setattr(review, "MOST_COMPARED", 20)
    shutil.copy(root / "train" / "bolt" / "03.png", root / "val" / "bolt" / "copy.png")
    (line,) = warnings(root)
    assert line.startswith("45 images were not compared (this check reads up to 20)")
