"""Images without labels: in the root, in folders that mean nothing, and in splits."""

import numpy as np
import pytest
from PIL import Image

from vitsearch.core.data_sources import UNLABELLED
from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, load
from vitsearch.data.review import review
from vitsearch.errors import DataError


def spec(root, **keys):
    return DataSpec("folder", root=str(root), **{"image_size": ImageSize.square(8), "labels": "none"} | keys)


def write(folder, count, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def test_images_of_the_root_and_of_its_folders_are_one_set(tmp_path):
    write(tmp_path, 5)
    write(tmp_path / "monday" / "morning", 5, start=5)
    data = load(spec(tmp_path, validation_share=0.4))
    assert (len(data.train), len(data.validation), data.test) == (6, 4, None)
    assert data.class_names == (UNLABELLED,)


def test_folders_of_splits_are_read_as_ever(tmp_path):
    for index, name in enumerate(("train", "val", "test")):
        write(tmp_path / name, 3 - index, start=10 * index)
    data = load(spec(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (3, 2, 1)


def test_a_check_counts_images_and_no_classes(tmp_path):
    write(tmp_path, 20)
    (tmp_path / "notes.txt").touch()
    found = review(spec(tmp_path, validation_share=0.5))
    assert "classes: none, as the images have no labels" in found.layout.describe()
    assert "train: 10 images, all images below the root" in found.layout.describe()
    (skipped,) = found.warnings
    assert "notes.txt" in skipped


def test_a_folder_without_images_is_one_problem(tmp_path):
    (tmp_path / "monday").mkdir()
    with pytest.raises(DataError, match="has no images. Names of image files end in .bmp"):
        load(spec(tmp_path))


def test_images_without_class_folders_name_the_key_that_takes_them(tmp_path):
    write(tmp_path, 4)
    with pytest.raises(DataError, match="directly holds 4 image files.*data.labels: none takes images without classes"):
        load(spec(tmp_path, labels="folders"))


def test_an_unknown_word_is_refused():
    with pytest.raises(DataError, match="data.labels: 'some'; allowed: folders, masks, none"):
        spec(".", labels="some")
