"""Warnings about data that judges badly, for each kind of source."""

from __future__ import annotations

import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from vitsearch.core.caveats.leaks import leak_text
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_of
from vitsearch.data import DataSpec, load, review
from vitsearch.data.fashion_mnist import SUBSET_ASSET
from vitsearch.data.leaks import find_leaks
from vitsearch.errors import DataError
from vitsearch.stages import DataJob, DataReady, Workspace
from vitsearch.storage.files import FileStore


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
    return review.review(DataSpec(source, root=str(root), image_size=ImageSize.square(8))).warnings


@pytest.mark.parametrize("source", ["folder", "torch/image_folder"])
def test_clean_data_gives_no_warning(root, source):
    assert warnings(root, source) == []


def test_the_builtin_data_gives_no_warning():
    assert review.review(DataSpec("builtin:fashion-mnist-14k")).warnings == []


def test_pictures_with_masks_are_counted_for_each_class_in_them():
    reviewed = review.review(DataSpec("builtin:fashion-mosaic"))
    assert reviewed.warnings == []
    train, holdout = (reviewed.layout.splits[name] for name in ("train", "holdout"))
    assert (train.images, holdout.images) == (6000, 600)
    assert train.counts[0] == 6000  # the background is in each
    assert sum(train.counts[1:]) > 3 * 6000


@pytest.mark.parametrize(
    ("folder", "remedy"), [("masks", "write task.kind"), ("labels", "call the folder 'masks' and write task.kind")]
)
def test_masks_that_are_read_as_a_class_are_named(tmp_path, folder, remedy):
    images(tmp_path / "train", {"images": 12, folder: 12}, seed=1)
    images(tmp_path / "val", {"images": 10, folder: 10}, seed=2)
    (warning,) = warnings(tmp_path)
    assert warning.startswith(f"two classes are called 'images' and '{folder}'")
    assert warning.endswith(f"{remedy}: segmentation and task.data.labels: masks")


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


def test_test_images_that_are_known_from_the_search_are_named(root):
    images(root / "test", {"bolt": 12, "nut": 12}, seed=4)
    shutil.copy(root / "train" / "bolt" / "03.png", root / "test" / "bolt" / "a.png")
    shutil.copy(root / "val" / "nut" / "05.png", root / "test" / "nut" / "b.png")
    (line,) = warnings(root)
    assert line.startswith("2 of 26 test images are also training or validation images, so the accuracy on the test")
    assert line.endswith("test/bolt/a.png is train/bolt/03.png, test/nut/b.png is val/nut/05.png")
    assert warnings(root, "torch/image_folder") != []


def test_classes_of_very_different_size_are_named_with_their_numbers(root):
    assert warnings(root) == []
    images(root / "train", {"washer": 36}, seed=5)
    images(root / "val", {"washer": 10}, seed=6)
    assert warnings(root) == []  # 36 to 12: three to one, not more
    shutil.copy(root / "val" / "washer" / "00.png", root / "train" / "washer" / "more.png")
    first, second = warnings(root)
    assert first.startswith("unequal classes in train: 'washer' 37 images, 'bolt' 12 (3.1 to 1)")
    assert second.startswith("1 of 30 validation images are also training images")


def test_what_a_run_says_at_its_start_is_found_in_the_cache(root, tmp_path, monkeypatch):
    images(root / "train", {"washer": 40}, seed=5)
    images(root / "val", {"washer": 10}, seed=6)
    shutil.copy(root / "train" / "bolt" / "03.png", root / "val" / "bolt" / "copy.png")
    spec = DataSpec("folder", root=str(root), image_size=ImageSize.square(8))
    said = review.notes(spec, tmp_path / "cache")
    assert [line.partition(":")[0] for line in said] == [
        "unequal classes in train",
        "1 of 31 validation images are also training images, so every accuracy is too high",
    ]
    monkeypatch.setattr("hashlib.file_digest", None)  # nothing is read again
    assert review.notes(spec, tmp_path / "cache") == said


def test_test_images_of_a_set_that_cannot_be_read_are_a_warning(root):
    images(root / "test", {"bolt": 1, "nut": 1}, seed=7)
    (root / "test" / "nut" / "00.png").write_bytes(b"<html>")
    (line,) = warnings(root, "torch/image_folder")
    assert line.startswith("there are no test images to judge a finished model by: torch/image_folder, split 'test'")
    with pytest.raises(DataError, match="to use no test images, set data.test_split: none"):
        warnings(root)


def found(root: Path, source: str = "folder", **keys) -> dict:
    layout = review.review(DataSpec(source, root=str(root), image_size=ImageSize.square(8), **keys)).layout
    assert layout is not None
    return {"classes": json_of(list(layout.printed_classes())), "splits": json_of(layout.printed_splits())}


@pytest.mark.parametrize("source", ["folder", "torch/image_folder"])
def test_classes_are_counted_by_split(root, source):
    images(root / "test", {"bolt": 3}, seed=4)
    said = found(root, source)
    assert said["classes"] == [
        {"name": "bolt", "train": 12, "holdout": 1, "validation": 10, "test": 3},
        {"name": "nut", "train": 12, "holdout": 1, "validation": 10, "test": 0},
    ]
    assert {name: row["images"] for name, row in said["splits"].items()} == {
        "train": 24,
        "holdout": 2,
        "validation": 20,
        "test": 3,
    }
    assert "val" in said["splits"]["validation"]["source"]


@pytest.mark.parametrize("source", ["folder", "torch/image_folder"])
def test_images_that_are_drawn_for_validation_say_so(tmp_path, source):
    images(tmp_path, {"bolt": 40, "nut": 60}, seed=3)
    said = found(tmp_path, source, validation_share=0.25, seed=7)
    assert [(row["train"], row["validation"], row["test"]) for row in said["classes"]] == [
        (30, 10, None),
        (45, 15, None),
    ]
    drawn = said["splits"]["validation"]
    assert (drawn["share"], drawn["seed"]) == (0.25, 7)
    assert drawn["source"].startswith("25 % of the images of each class, drawn with seed 7")


def test_the_holdout_is_what_the_search_sets_aside(root):
    spec = DataSpec("folder", root=str(root), image_size=ImageSize.square(8), holdout_images=1)
    layout, data = review.review(spec).layout, load(spec)
    assert layout is not None
    assert sum(layout.splits["holdout"].counts) == len(data.holdout) == 1
    assert layout.splits["holdout"].counts == tuple(np.bincount(data.train.labels[data.holdout], minlength=2))


def test_the_builtin_data_is_counted():
    layout = review.review(DataSpec("builtin:fashion-mnist-14k")).layout
    assert layout is not None
    assert {name: split.images for name, split in layout.splits.items()} == {
        "train": 10_000,
        "holdout": 1000,
        "validation": 2000,
        "test": 2000,
    }
    assert set(layout.splits["train"].counts) == {1000}


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
    assert found(root)["classes"][0] == {"name": "bolt", "train": 12, "holdout": 1, "validation": 11, "test": None}
    timm = review.review(DataSpec("torch/image_folder", root=str(root), image_size=ImageSize.square(8)))
    assert timm.layout is None
    assert timm.warnings[0].endswith("nor were classes counted")


def views(root: Path, parts: int) -> Path:
    """Two brightnesses of each part, and copies of none."""
    for row, name in enumerate(("bolt", "nut")):
        (root / name).mkdir(parents=True)
        for part in range(parts):
            pixels = np.random.default_rng([row, part]).integers(0, 256, (16, 16))
            for view, light in enumerate((1, 0.8)):
                file = root / name / f"part{part}_{view}.png"
                Image.fromarray((pixels * light).astype(np.uint8)).save(file)
    return root


def damage(file: Path) -> None:
    """Change pixels of a file whose header and end stay whole."""
    content = bytearray(file.read_bytes())
    content[-30:-20] = bytes(10)
    file.write_bytes(content)


def test_near_duplicates_of_all_roles_are_kept_for_a_study(tmp_path, monkeypatch):
    root = views(tmp_path / "train", 50).parent
    images(root / "val", {"bolt": 10, "nut": 10}, seed=3)
    shutil.copytree(root / "train" / "bolt", root / "test" / "bolt")
    for file in (root / "test" / "bolt").glob("*_1.png"):
        file.unlink()
    spec = DataSpec("folder", root=str(root), image_size=ImageSize.square(16))
    data = load(spec, tmp_path / "cache")
    leaks = find_leaks(data, tmp_path / "cache")
    assert leaks["validation"] == {"images": 20, "alike": 0}
    assert leaks["holdout"]["images"] == len(data.holdout) == 20
    assert leaks["holdout"]["alike"] > 10
    assert leaks["test"]["images"] == 50
    assert leaks["test"]["alike"] > 40
    monkeypatch.setattr("vitsearch.data.leaks.fingerprints", None)  # nothing is compared again
    assert find_leaks(data, tmp_path / "cache") == leaks
    text = leak_text(leaks)
    assert text is not None
    assert text.startswith(f"{leaks['test']['alike']} of the 50 test images that were compared show nearly the same")


def test_check_names_near_duplicates_of_test_and_holdout_images_too(tmp_path):
    root = views(tmp_path / "train", 50).parent
    images(root / "val", {"bolt": 10, "nut": 10}, seed=3)
    (line,) = warnings(root)
    assert " of 20 holdout images, such as train/" in line


def test_damaged_images_are_named_with_all_other_problems(root):
    images(root / "test", {"bolt": 3}, seed=4)
    for file in ("train/nut/03.png", "val/nut/04.png", "test/bolt/02.png"):
        damage(root / file)
    (root / "train" / "hat").mkdir()
    with pytest.raises(DataError) as caught:
        review.review(DataSpec("folder", root=str(root), image_size=ImageSize.square(8), group="lot"))
    for words in ("no images in 'hat'", "'lot' finds no group", "nut/03.png: ", "nut/04.png: ", "bolt/02.png: "):
        assert words in str(caught.value)


def test_damaged_images_are_named_where_nothing_else_is_wrong(tmp_path):
    images(tmp_path, {"bolt": 60, "nut": 60}, seed=1)
    for number in range(0, 60, 2):
        damage(tmp_path / "nut" / f"{number:02}.png")
    with pytest.raises(DataError, match="30 images cannot be used"):
        warnings(tmp_path)


def test_of_too_many_pixels_a_part_is_decoded_and_check_says_so(root, monkeypatch):
    monkeypatch.setattr("vitsearch.data.folders.decoded.MOST_PIXELS", 22 * 64)
    (line,) = warnings(root)
    assert line.startswith("22 of 44 images were decoded, evenly over the folder; of the others only headers and ends")


def test_the_file_of_the_groups_is_not_skipped(tmp_path):
    root = views(tmp_path, 50)
    rows = [f"{file.relative_to(root)};{file.stem.partition('_')[0]}" for file in sorted(root.rglob("*.png"))]
    (root / "parts.csv").write_text("\n".join(["file;part", *rows]))
    spec = DataSpec("folder", root=str(root), image_size=ImageSize.square(16), group="parts.csv:part")
    assert review.review(spec).warnings == []


def variants(root: Path, objects: int) -> Path:
    """Two crops in two brightnesses of each object, in two classes."""
    for row, name in enumerate(("bolt", "nut")):
        (root / name).mkdir(parents=True)
        for number in range(objects):
            pixels = np.pad(np.random.default_rng([row, number]).integers(0, 256, (24, 24)), 8)
            crops = (pixels[top : top + 32, top : top + 32] for top in (2, 5))
            for shot, crop in enumerate(crop * light for crop in crops for light in (1, 0.75)):
                Image.fromarray(crop.astype(np.uint8)).save(root / name / f"item{number:03}_{shot}.png")
    return root


def described(spec: DataSpec, folder: Path) -> DataReady:
    """What a run finds in the data at its start."""
    store = FileStore(folder / "artifacts")
    workspace = Workspace(spec.to_json(), store, FileStore(folder / "scratch"), folder / "cache")
    return DataJob(workspace).work()


def test_the_groups_that_check_proposes_keep_four_variants_of_an_object_together(tmp_path):
    plain = DataSpec("folder", root=str(variants(tmp_path / "parts", 50)), image_size=ImageSize.square(32))
    (line,) = review.review(plain).warnings
    counted = re.search(r": (\d+) pairs, of (\d+) of 40 validation images, (\d+) of 36 holdout images, such as", line)
    assert counted is not None, line
    pairs, validation, holdout = map(int, counted.groups())
    assert pairs >= validation + holdout
    assert validation > 30
    before = described(plain, tmp_path / "before")
    assert before.description["leaks"]["validation"] == {"images": 40, "alike": validation}
    assert [note for note in before.notes if note.startswith(f"{validation} of the 40 validation images that were")]

    proposed = re.search(r"write in task.data: group: '(.*)'$", line)
    assert proposed is not None, line
    grouped = replace(plain, group=proposed[1])
    assert review.review(grouped).warnings == []
    after = described(grouped, tmp_path / "after")
    assert after.description["leaks"]["validation"]["alike"] == after.description["leaks"]["holdout"]["alike"] == 0
    assert after.notes == ()


def deep(folder: Path, brightest: list[int]) -> None:
    """Noise of up to so much, in files of 16 bits."""
    folder.mkdir(parents=True)
    for number, most in enumerate(brightest):
        pixels = (
            np.random.default_rng([crc32(str(folder).encode()), number]).integers(0, most + 1, (8, 8)).astype(np.uint16)
        )
        pixels[0, 0] = most
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def test_all_files_of_16_bits_are_judged_not_a_sample(tmp_path):
    """The last 20 of 120 are of 12 bits, and one bright pixel elsewhere does not hide them."""
    deep(tmp_path / "bolt", [65535] * 100)
    deep(tmp_path / "nut", [65535] * 100 + [4095] * 20)
    (line,) = warnings(tmp_path)
    assert line.startswith(
        "files of 16 bits with small values: in 20 of the 220 that were decoded, such as nut/100.png, the brightest "
        "pixel is at most 15 of 255, as the upper 8 of the 16 bits are used. Multiply the pixels"
    )


@pytest.mark.parametrize("source", ["folder", "torch/image_folder"])
def test_dark_files_are_named_in_every_source(tmp_path, source):
    for split in ("train", "val"):
        for name in ("bolt", "nut"):
            deep(tmp_path / split / name, [1023] * 12 if split == "train" else [1000] * 12)
    (line,) = (line for line in warnings(tmp_path, source) if "16 bits" in line)
    assert "in 48 of the 48" in line if source == "folder" else "in 24 of the 24" in line
    assert "at most 3 of 255" in line


def test_single_black_photos_are_no_dark_files(tmp_path):
    deep(tmp_path / "bolt", [65535] * 100)
    deep(tmp_path / "nut", [65535] * 98 + [4095] * 2)
    assert warnings(tmp_path) == []
