"""What is a split and what is a class, in real folders; what may be either is refused with the lines to type."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, load
from vitsearch.data.folders import scan
from vitsearch.data.folders.layout import SplitFolders, split_folders
from vitsearch.errors import DataError


def made(root: Path, *folders: str, images: int = 2) -> Path:
    """Write images that differ into each of the folders."""
    for number, name in enumerate(folders):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            Image.new("RGB", (8, 8), (number, index, len(name))).save(root / name / f"{index}.png")
    return root


def splits(root: Path, **keys: str) -> tuple[str | None, ...]:
    """The folders of train, validation and test."""
    resolved: SplitFolders = split_folders(DataSpec("folder", root=str(root), **keys))
    shown = (resolved.train, resolved.validation, resolved.test)
    return tuple(None if folder is None else folder.relative_to(root).as_posix() for folder in shown)


def refused(root: Path, *words: str, **keys: str) -> str:
    with pytest.raises(DataError) as caught:
        split_folders(DataSpec("folder", root=str(root), **keys))
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    return text


def moved(text: str) -> None:
    """Type the mv lines of a message."""
    for line in text.splitlines():
        command = line.strip()[line.strip().find("mv ") :].partition(";")[0].strip()
        if command.startswith("mv "):
            subprocess.run(shlex.split(command), check=True)


def test_the_usual_folders_are_splits(tmp_path):
    made(tmp_path, "train/a", "train/b", "validation/a", "test/a")
    assert splits(tmp_path) == ("train", "validation", "test")


def test_folders_of_other_names_are_classes(tmp_path):
    assert splits(made(tmp_path, "cut", "bus", "trainer")) == (".", None, None)


@pytest.mark.parametrize("names", [("Train", "Valid"), ("TRAIN", "VAL", "TEST"), ("training", "validation", "testing")])
def test_splits_in_other_words_are_refused_and_the_lines_to_type_repair_them(tmp_path, names):
    made(tmp_path, *(f"{name}/{letter}" for name in names for letter in "ab"))
    text = refused(tmp_path, *map(repr, names), "allowed names: train; val or validation; test", "train_split: .")
    moved(text)
    assert splits(tmp_path)[0] == "train"
    assert splits(tmp_path)[1] in ("val", "validation")


def test_keys_name_the_folders_of_the_splits(tmp_path):
    made(tmp_path, "Train/a", "Train/b", "Valid/a", "Testing set/a")
    text = refused(tmp_path)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[lines.index("or, without renaming, in the section task.data:") + 1 :][:3] == [
        "train_split: Train",
        "validation_split: Valid",
        "test_split: Testing set",
    ]
    keys = {"train_split": "Train", "validation_split": "Valid", "test_split": "Testing set"}
    assert splits(tmp_path, **keys) == ("Train", "Valid", "Testing set")


@pytest.mark.parametrize(
    "name", ["valid", "Val", "dev", "eval", "holdout", "val_images", "testing", "tests", "Test", "train2"]
)
def test_a_look_alike_beside_train_is_refused(tmp_path, name):
    made(tmp_path, "train/a", "train/b", f"{name}/a")
    refused(tmp_path, repr(name), "_split: ")


def test_a_look_alike_beside_the_split_itself_is_refused_until_a_key_decides(tmp_path):
    made(tmp_path, "train/a", "train/b", "val/a", "Valid/a")
    refused(tmp_path, "'Valid'", "set data.validation_split: val")
    assert splits(tmp_path, validation_split="val") == ("train", "val", None)
    made(tmp_path, "validation/a")
    refused(tmp_path, "both 'val' and 'validation'", "data.validation_split: val")


def test_the_key_none_leaves_a_split_out(tmp_path):
    made(tmp_path, "train/a", "train/b", "holdout/a", "test/a")
    refused(tmp_path, "mv", "data.validation_split: holdout", "data.validation_split: none")
    assert splits(tmp_path, validation_split="none", test_split="none") == ("train", None, None)
    assert splits(tmp_path, validation_split="none", test_split="holdout") == ("train", None, "holdout")


def test_a_class_may_be_called_train_among_others(tmp_path):
    made(tmp_path, "bus", "car", "train")
    assert splits(tmp_path) == (".", None, None)
    spec = DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(8), validation_share=0.5)
    assert load(spec).class_names == ("bus", "car", "train")


def test_a_class_may_be_called_train_inside_of_train(tmp_path):
    made(tmp_path, "train/bus", "train/car", "train/train", "val/bus", "val/train")
    assert splits(tmp_path) == ("train", "val", None)


@pytest.mark.parametrize("names", [("cat", "dog", "test"), ("invalid", "valid"), ("train", "test"), ("Train", "Val")])
def test_other_classes_that_are_called_like_splits_need_the_key(tmp_path, names):
    made(tmp_path, *names)
    spec = DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(8), validation_share=0.5)
    with pytest.raises(DataError):
        load(spec)
    assert splits(tmp_path, train_split=".") == (".", None, None)


def test_splits_within_train_are_refused(tmp_path):
    made(tmp_path, "train/Train/a", "train/Train/b", "train/Valid/a")
    refused(tmp_path, f"data.root: {tmp_path}/train", f"mv {tmp_path}/train/Valid {tmp_path}/val", "'Train', 'Valid'")
    assert splits(tmp_path, train_split="train") == ("train", None, None)


def test_a_validation_folder_among_the_classes_of_train_is_refused(tmp_path):
    made(tmp_path, "train/bus", "train/car", "train/val/bus", "train/val/car")
    moved(refused(tmp_path, "'val'"))
    assert splits(tmp_path) == ("train", "val", None)


def test_classes_of_train_that_validation_has_too_may_be_called_anything(tmp_path):
    made(tmp_path, "train/test", "train/train", "val/test", "val/train")
    assert splits(tmp_path) == ("train", "val", None)


def test_train_beside_folders_with_images_is_a_question(tmp_path):
    made(tmp_path, "bus", "car", "train/steam", "train/diesel")
    refused(tmp_path, "'bus', 'car'", "data.train_split: train", "data.train_split: .")
    assert splits(tmp_path, train_split="train") == ("train", None, None)
    assert splits(tmp_path, train_split=".") == (".", None, None)


def test_splits_inside_of_classes_are_refused(tmp_path):
    made(tmp_path, "bus/train", "bus/val", "car/train", "car/val")
    refused(tmp_path, "splits inside a class: bus/train, bus/val", f"mv {tmp_path}/bus/train {tmp_path}/train/bus")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"train_split": "Trian"}, ["data.train_split", "has no folder 'Trian'", "did you mean 'train'"]),
        ({"train_split": "../x"}, ["not a folder below data.root"]),
        ({"train_split": ".", "validation_split": "val"}, ["data.validation_split", "makes every folder of"]),
        ({"validation_split": "train"}, ["cannot be a split of its own"]),
        ({"validation_split": "train/a"}, ["cannot be a split of its own"]),
        ({"validation_split": "test"}, []),
    ],
)
def test_keys_that_contradict_the_folders_are_refused(tmp_path, keys, words):
    made(tmp_path, "train/a", "train/b", "val/a", "test/a")
    if not words:
        # What the key takes is no test split any more, and val is a look-alike that the key decided on.
        assert splits(tmp_path, **keys) == ("train", "test", None)
        return
    refused(tmp_path, *words, **keys)


def test_a_link_to_nothing_is_no_missing_split(tmp_path):
    made(tmp_path, "train/a", "train/b")
    (tmp_path / "val").symlink_to(tmp_path / "gone")
    refused(tmp_path, "'val': a link to nothing")
    assert splits(tmp_path, validation_split="none") == ("train", None, None)


def test_links_in_a_circle_hidden_folders_and_files_are_no_splits(tmp_path):
    made(tmp_path, "train/été", "train/wing nut", "val/été", ".Valid/a")
    (tmp_path / "train" / "again").symlink_to(tmp_path / "train")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "test.csv").touch()
    (tmp_path / "Valid.zip").touch()
    assert splits(tmp_path) == ("train", "val", None)


def test_naming_the_folders_reads_the_same_images_as_renaming_them(tmp_path):
    made(tmp_path, "Train/a", "Train/b", "Valid/a", "Valid/b")
    named = load(
        DataSpec(
            "folder", root=str(tmp_path), image_size=ImageSize.square(8), train_split="Train", validation_split="Valid"
        )
    )
    alone = load(
        DataSpec(
            "folder", root=str(tmp_path), image_size=ImageSize.square(8), train_split="Train", validation_split="none"
        )
    )
    (tmp_path / "Train").rename(tmp_path / "train")
    (tmp_path / "Valid").rename(tmp_path / "val")
    assert load(DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(8))).identity == named.identity
    assert alone.identity != named.identity


def test_classes_that_differ_in_case_are_named_with_the_line_to_type(tmp_path):
    made(tmp_path, "train/Bolt", "train/nut", "val/bolt", "val/nut")
    with pytest.raises(DataError, match="validation has classes that train lacks: 'bolt'") as caught:
        load(DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(8)))
    assert f"mv {tmp_path}/val/bolt {tmp_path}/val/Bolt" in str(caught.value)


def test_unlabelled_test_images_are_refused_and_can_be_left_out(tmp_path):
    made(tmp_path, "train/a", "train/b", "val/a", "val/b", "test")
    with pytest.raises(DataError, match=r"test: has no class folders; it directly holds 2 image files") as caught:
        load(DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(8)))
    assert "data.test_split: none" in str(caught.value)
    assert load(DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(8), test_split="none")).test is None


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
def test_folders_of_the_kernel_are_refused_before_they_are_read():
    with pytest.raises(DataError, match="/proc/self shows the state of the kernel"):
        split_folders(DataSpec("folder", root="/proc/self"))


def test_a_folder_with_very_many_files_and_no_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "MOST_OTHERS", 10)
    for name in ("a", "b"):
        (tmp_path / name / "images").mkdir(parents=True)
        for number in range(20):
            (tmp_path / name / f"{number}.txt").touch()
    with pytest.raises(DataError, match="no image among its first 10 files and folders"):
        load(DataSpec("folder", root=str(tmp_path)))
