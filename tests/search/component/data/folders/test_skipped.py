"""Files of a folder of images that are not used are named with the reason."""

from __future__ import annotations

from PIL import Image

from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec
from vitsearch.data.folders.reader import survey_folder
from vitsearch.data.folders.skipped import OTHER_ENDING, skipped_files


def skipped(root) -> list[str]:
    for name in ("bolt", "nut"):
        (root / name).mkdir(exist_ok=True)
        for level in (0, 255):
            Image.new("L", (8, 8), level).save(root / name / f"{level}.png")
    top = root.parent if root.name == "train" else root
    lines = skipped_files(survey_folder(DataSpec("folder", root=str(top), image_size=ImageSize.square(8)), None))
    return [line.removeprefix(f"{top}: ") for line in lines]


def test_nothing_is_skipped_in_a_clean_folder(tmp_path):
    assert skipped(tmp_path) == []


def test_each_reason_is_one_line(tmp_path):
    (tmp_path / "bolt").mkdir()
    for name in ("bolt/notes.txt", "bolt/a.heic", "bolt/.DS_Store", "loose.png"):
        (tmp_path / name).touch()
    assert sorted(skipped(tmp_path)) == sorted(
        [
            "1 skipped, hidden: bolt/.DS_Store",
            "1 skipped, not in the folder of a class: loose.png",
            f"2 skipped, {OTHER_ENDING}: bolt/a.heic, bolt/notes.txt",
        ]
    )


def test_what_lies_beside_the_splits_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "extra").mkdir()
    (tmp_path / "labels.csv").touch()
    assert skipped(tmp_path / "train") == ["2 skipped, beside the folders of the splits: extra/, labels.csv"]
