"""Splits of sets that timm reads: what only looks like one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitsearch.data import DataSpec
from vitsearch.data.timm_sets.splits import SplitNames, split_names
from vitsearch.errors import DataError


def spec(root: Path, source: str = "torch/image_folder", **keys: str) -> DataSpec:
    return DataSpec(source, root=str(root), **keys)


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name / "bolt").mkdir(parents=True)
    return root


def test_folders_of_splits_in_other_words_are_refused(tmp_path):
    folders(tmp_path, "Train", "Valid", "Test")
    with pytest.raises(DataError, match="'Test', 'Train', 'Valid'") as caught:
        split_names(spec(tmp_path))
    assert f"mv {tmp_path}/Train {tmp_path}/train" in str(caught.value)
    assert "train_split: Train, validation_split: Valid, test_split: Test" in str(caught.value)
    named = spec(tmp_path, train_split="Train", validation_split="Valid", test_split="Test")
    assert split_names(named) == SplitNames("Train", "Valid", "Test")
    assert split_names(spec(tmp_path, train_split=".")) == SplitNames("")


def test_a_validation_folder_that_is_not_read_is_refused(tmp_path):
    folders(tmp_path, "train", "Valid")
    with pytest.raises(DataError, match="set data.validation_split: Valid, or data.validation_split: none"):
        split_names(spec(tmp_path))
    assert split_names(spec(tmp_path, validation_split="Valid")) == SplitNames("train", "Valid")
    assert split_names(spec(tmp_path, validation_split="none")) == SplitNames("train")


def test_none_leaves_out_what_is_there(tmp_path):
    folders(tmp_path, "train", "val", "test")
    assert split_names(spec(tmp_path)) == SplitNames("train", "val", "test")
    assert split_names(spec(tmp_path, validation_split="none", test_split="none")) == SplitNames("train")
    assert split_names(spec(tmp_path, validation_split="test")) == SplitNames("train", "test")


def test_one_split_cannot_serve_twice(tmp_path):
    folders(tmp_path, "train", "val", "test")
    with pytest.raises(DataError, match=r"data.test_split: 'val' is also the split of .* to validate on"):
        split_names(spec(tmp_path, validation_split="val", test_split="val"))


def test_tar_files_in_other_words_are_refused_with_the_line_to_type(tmp_path):
    for name in ("train.tar", "Valid.tar"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"Valid.tar .* mv {tmp_path}/Valid.tar {tmp_path}/val.tar"):
        split_names(spec(tmp_path, "tar"))
    (tmp_path / "Valid.tar").rename(tmp_path / "val.tar")
    assert split_names(spec(tmp_path, "tar")) == SplitNames("train.tar", "val.tar")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, SplitNames("train", None, "test")),
        ({"validation_split": "test"}, SplitNames("train", "test")),
        ({"test_split": "none"}, SplitNames("train")),
    ],
)
def test_torchvision_sets_with_two_splits(tmp_path, keys, expected):
    assert split_names(spec(tmp_path, "torch/cifar10", **keys)) == expected
