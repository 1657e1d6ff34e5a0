"""Folders whose images belong to groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, describe_difference, load, review
from vitsearch.data.folders.reader import survey_folder, survey_parts
from vitsearch.errors import DataError

GENERATOR = np.random.default_rng(0)


def images(folder: Path, parts: range, shots: int = 4) -> None:
    folder.mkdir(parents=True)
    for part in parts:
        for shot in range(shots):
            Image.fromarray(GENERATOR.integers(0, 256, (8, 8), np.uint8)).save(folder / f"p{part}_{shot}.png")


def spec(root: Path, **keys: object) -> DataSpec:
    return DataSpec("folder", root=str(root), image_size=ImageSize.square(8), group=r"(p\d+)_", **keys)


def test_the_splits_hold_whole_groups(tmp_path):
    images(tmp_path / "bolt", range(20))
    images(tmp_path / "nut", range(20, 40))
    wanted = spec(tmp_path, validation_share=0.2)
    survey = survey_folder(wanted, None)
    train, validation = survey_parts(survey, wanted).values()
    assert not set(train.groups) & set(validation.groups)
    assert np.bincount(validation.labels).tolist() == [16, 16]
    data = load(wanted)
    groups = np.array(train.groups)
    assert len(data.holdout) == pytest.approx(12, abs=4)
    assert not set(groups[data.holdout]) & set(groups[data.learned])
    assert len(data.holdout) + len(data.learned) == len(train.files)
    assert data.identity != load(spec(tmp_path, validation_share=0.2, holdout_images=4)).identity
    layout = review.review(wanted).layout
    assert layout is not None
    assert layout.splits["holdout"].images == len(data.holdout)
    assert "in whole groups" in layout.splits["validation"].origin.source


def test_groups_across_the_folders_of_the_splits_are_refused(tmp_path):
    for split, parts in (("train", range(6)), ("val", range(5, 8))):
        images(tmp_path / split / "bolt", parts)
        images(tmp_path / split / "nut", range(parts.start + 20, parts.stop + 20))
    with pytest.raises(DataError, match="2 of 16 groups have images in more than one split, such as 'p5' in train and"):
        survey_folder(spec(tmp_path), None)


def test_other_groups_of_the_same_images_are_a_difference_in_words(tmp_path):
    images(tmp_path / "train" / "bolt", range(20))
    images(tmp_path / "train" / "nut", range(20, 40))
    images(tmp_path / "val" / "bolt", range(40, 50))
    images(tmp_path / "val" / "nut", range(50, 60))
    by_part, by_ten = (load(dataclasses.replace(spec(tmp_path), group=group)) for group in (r"p\d+_", r"\w+/p\d\d?"))
    assert by_part.train.sha256 == by_ten.train.sha256
    assert describe_difference(by_part.to_json(), by_ten.to_json()) == []
    tens = load(dataclasses.replace(spec(tmp_path), group=r"val/\w+/p\d+_|train/\w+/p\d\d"[:0] or r"\w+/\w+/p\d"))
    assert len(describe_difference(by_part.to_json(), tens.to_json())) == 1


def test_images_without_classes_have_groups_too(tmp_path):
    images(tmp_path / "shots", range(10))
    data = load(spec(tmp_path, labels="none"))
    assert len(data.validation) == 4


def test_images_with_masks_have_groups_too(tmp_path):
    images(tmp_path / "images", range(10))
    (tmp_path / "masks").mkdir()
    for file in sorted((tmp_path / "images").iterdir()):
        mask = GENERATOR.integers(0, 2, (8, 8), np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / file.name)
    (tmp_path / "classes.txt").write_text("back\nscratch\n")
    wanted = spec(tmp_path, labels="masks")
    data = load(wanted)
    assert (len(data.validation), len(data.holdout), len(data.learned)) == (4, 4, 32)
    assert data.train.units is not None
    assert not set(data.train.units[data.holdout]) & set(data.train.units[data.learned])
    layout = review.review(wanted).layout
    assert layout is not None
    assert (layout.splits["validation"].images, layout.splits["holdout"].images) == (4, 4)


def test_near_duplicates_across_a_draw_propose_the_groups(tmp_path):
    for name, parts in (("bolt", range(10)), ("nut", range(10, 20))):
        (tmp_path / name).mkdir()
        for part in parts:
            pixels = GENERATOR.integers(0, 200, (32, 32), np.uint8)
            for shot in range(3):
                Image.fromarray(pixels + np.uint8(9 * shot)).save(tmp_path / name / f"p{part}_{shot}.png")
    plain = DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(32), validation_share=0.2)
    (line,) = [line for line in review.review(plain).warnings if "nearly equal" in line]
    assert line.endswith("write in task.data: group: '(.*)_[^/_]*$'")
    grouped = dataclasses.replace(plain, group="(.*)_[^/_]*$")
    assert not [line for line in review.review(grouped).warnings if "nearly equal" in line]


def test_a_class_that_no_training_would_see_is_refused(tmp_path):
    images(tmp_path / "bolt", range(2))
    images(tmp_path / "nut", range(2, 4))
    with pytest.raises(DataError, match="leave no image of 'bolt|leave no image of 'nut"):
        load(spec(tmp_path, validation_share=0.5))


def test_a_wrong_regex_names_the_key():
    with pytest.raises(DataError, match=r"data.group: '\(' is not a regular expression"):
        DataSpec("folder", root=".", group="(")
