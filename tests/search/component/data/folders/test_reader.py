"""The folder source on real files, valid and invalid."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, ImageData, load
from vitsearch.data.pixels import decode_image
from vitsearch.errors import DataError


def write(path: Path, colour=(200, 30, 90), size=(20, 16), mode="RGB", noise: int | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    if noise is not None:
        pixels = np.random.default_rng(noise).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    image.convert(mode).save(path, **options)
    return path


def classes(root: Path, names=("bolt", "nut"), count=5, start=0, **options) -> None:
    for position, name in enumerate(names):
        for index in range(count):
            write(root / name / f"{index:02}.png", noise=start + 100 * position + index, **options)


def read(root: Path, cache: Path | None = None, **values) -> ImageData:
    return load(DataSpec("folder", root=str(root), **{"image_size": ImageSize.square(8)} | values), cache)


def refused(root: Path, *words: str, **values) -> None:
    with pytest.raises(DataError) as caught:
        read(root, **values)
    assert all(word in str(caught.value) for word in words), caught.value


def test_train_val_and_test_folders(tmp_path):
    classes(tmp_path / "train", ("nut", "bolt", "Washer"), 4)
    classes(tmp_path / "val", ("nut", "bolt"), 2, start=1000)
    classes(tmp_path / "test", ("nut",), 1, start=2000)
    data = read(tmp_path)
    assert data.class_names == ("Washer", "bolt", "nut")
    assert data.train.images.shape == (12, 8, 8, 3)
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.validation.labels.tolist() == [1, 1, 2, 2]
    assert data.test.labels.tolist() == [2]
    assert data.identity.classes == 3


def test_class_folders_without_splits_are_split_by_class_and_seed(tmp_path):
    classes(tmp_path, count=10)
    data = read(tmp_path, validation_share=0.3)
    assert np.bincount(data.validation.labels).tolist() == [3, 3]
    assert np.bincount(data.train.labels).tolist() == [7, 7]
    assert data.test is None
    assert read(tmp_path, validation_share=0.3).identity == data.identity
    assert read(tmp_path, validation_share=0.3, seed=1).identity != data.identity


def test_renaming_a_file_moves_no_image_to_the_other_side(tmp_path):
    classes(tmp_path, count=10)
    before = {image.tobytes() for image in read(tmp_path).validation.images}
    (tmp_path / "bolt" / "00.png").rename(tmp_path / "bolt" / "zz.png")
    assert {image.tobytes() for image in read(tmp_path).validation.images} == before


def test_copies_of_an_image_stay_on_one_side(tmp_path):
    classes(tmp_path, count=4)
    for index in range(4):
        content = (tmp_path / "nut" / f"{index:02}.png").read_bytes()
        (tmp_path / "nut" / f"copy{index}.png").write_bytes(content)
    data = read(tmp_path, validation_share=0.5)
    sides = [{image.tobytes() for image in split.images} for split in (data.train, data.validation)]
    assert sides[0].isdisjoint(sides[1])


def test_identity_depends_on_contents_not_paths(tmp_path):
    for name in ("a", "b"):
        classes(tmp_path / name, count=4)
    first = read(tmp_path / "a", tmp_path / "cache")
    assert read(tmp_path / "b").identity == first.identity
    write(tmp_path / "b" / "nut" / "00.png", noise=999)
    assert read(tmp_path / "b").identity != first.identity
    assert read(tmp_path / "a", image_size=ImageSize.square(16)).identity != first.identity
    assert read(tmp_path / "a", channels=1).identity != first.identity


def test_cache_is_mapped_read_only_and_follows_changed_files(tmp_path):
    classes(tmp_path / "in", count=4)
    cache = tmp_path / "cache"
    first = read(tmp_path / "in", cache)
    assert isinstance(first.train.images, np.memmap)
    assert not first.train.images.flags.writeable
    assert (first.train.images == read(tmp_path / "in").train.images).all()
    stamps = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = read(tmp_path / "in", cache)
    assert again.identity == first.identity
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == stamps
    assert not list(cache.glob("*.part"))
    changed = write(tmp_path / "in" / "bolt" / "00.png", noise=999)
    os.utime(changed, ns=(1, 1))
    assert read(tmp_path / "in", cache).identity != first.identity


def test_damaged_listing_is_read_again(tmp_path):
    classes(tmp_path / "in", count=4)
    first = read(tmp_path / "in", tmp_path / "cache")
    (listing,) = (tmp_path / "cache").glob("listing-*.json")
    listing.write_text("{")
    assert read(tmp_path / "in", tmp_path / "cache").identity == first.identity


def test_grey_images_stay_grey_by_default(tmp_path):
    classes(tmp_path, count=3, mode="L")
    assert read(tmp_path).channels == 1
    colour = read(tmp_path, channels=3)
    assert colour.channels == 3
    assert (colour.train.images[..., :1] == colour.train.images).all()
    write(tmp_path / "nut" / "colour.png", noise=7)
    assert read(tmp_path).channels == 3


def test_common_size_is_used_and_mixed_sizes_need_a_key(tmp_path):
    classes(tmp_path, count=3, size=(12, 12))
    assert read(tmp_path, image_size=None).image_size == ImageSize.square(12)
    write(tmp_path / "nut" / "big.png", size=(30, 20))
    refused(tmp_path, "data.image_size: is missing", "12x12, 20x30; height x width", image_size=None)


def test_a_common_size_may_be_a_rectangle(tmp_path):
    classes(tmp_path, count=3, size=(20, 12))
    data = read(tmp_path, image_size=None)
    assert data.image_size == ImageSize(12, 20)
    assert data.to_json()["image_size"] == [12, 20]


def test_images_are_stored_in_the_shape_that_the_file_says(tmp_path):
    classes(tmp_path, count=3, size=(40, 40))
    shapes = {size: read(tmp_path, image_size=ImageSize.of(size)) for size in (16, (16, 8), (8, 16))}
    assert [data.train.images.shape[1:3] for data in shapes.values()] == [(16, 16), (16, 8), (8, 16)]
    assert len({data.identity for data in shapes.values()}) == 3


@pytest.mark.parametrize("size", [(24, 36), (12, 18), (16, 36)])
def test_a_photo_covers_the_stored_shape_and_is_not_squashed(tmp_path, size):
    wide = Image.new("L", (72, 48))
    wide.paste(255, (24, 12, 48, 36))  # a square in the middle, a third of the width and half of the height
    wide.save(tmp_path / "wide.png")
    lit = decode_image(tmp_path / "wide.png", ImageSize.of(size), 1)[..., 0] > 127
    rows, columns = lit.any(axis=1).sum(), lit.any(axis=0).sum()
    assert rows == columns == round(24 * max(size[0] / 48, size[1] / 72))


def test_a_jpeg_that_exif_turns_is_read_in_full_detail(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 50), dtype=np.uint8)
    lying = Image.fromarray(noise).resize((1000, 500), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    lying.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    lying.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    size = ImageSize(64, 256)
    turned, upright = (decode_image(tmp_path / name, size, 1).astype(int) for name in ("turned.jpg", "upright.png"))
    assert np.abs(turned - upright).mean() < 8


def test_statistics_come_from_training_images(tmp_path):
    for name, level in (("dark", 51), ("light", 153)):
        for index in range(2):
            write(tmp_path / "train" / name / f"{index}.png", colour=(level, level, index))
        write(tmp_path / "val" / name / "0.png", colour=(255, 255, 255))
    data = read(tmp_path)
    assert data.mean[:2] == (0.4, 0.4)
    assert data.std[:2] == (0.2, 0.2)


def test_unusual_images_are_decoded_as_documented(tmp_path):
    wide = Image.new("RGB", (64, 16))
    wide.paste((255, 0, 0), (24, 0, 40, 16))
    wide.save(tmp_path / "wide.png")
    assert decode_image(tmp_path / "wide.png", ImageSize.square(16), 3)[:, 4:-4, 0].min() == 255  # the centre is kept
    assert (decode_image(write(tmp_path / "cmyk.jpg", mode="CMYK"), ImageSize.square(8), 3).std(axis=(0, 1)) < 3).all()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert decode_image(tmp_path / "clear.png", ImageSize.square(8), 3).min() == 255
    palette = write(tmp_path / "palette.gif", mode="P")
    assert np.abs(decode_image(palette, ImageSize.square(8), 3)[0, 0].astype(int) - (200, 30, 90)).max() < 30
    Image.fromarray(np.full((9, 9), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert (decode_image(tmp_path / "deep.png", ImageSize.square(8), 1) == 128).all()
    assert decode_image(write(tmp_path / "tiny.png", size=(1, 1)), ImageSize.square(8), 3).shape == (8, 8, 3)
    turned = Image.new("L", (16, 16))
    turned.paste(255, (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert decode_image(tmp_path / "turned.jpg", ImageSize.square(16), 1)[8, 12, 0] > 250


def test_files_that_are_not_images_are_listed_below_their_reason(tmp_path):
    classes(tmp_path, count=3)
    for index in range(22):
        (tmp_path / "nut" / f"bad{index:02}.jpg").write_bytes(b"<html>not found</html>")
    refused(tmp_path, "22 images cannot be used", " (22):\n    ", "bad00.jpg\n", "bad19.jpg\n", "and 2 more")


def test_a_fault_of_many_files_hides_no_other(tmp_path):
    classes(tmp_path, count=3)
    for index in range(30):
        (tmp_path / "nut" / f"bad{index:02}.jpg").write_bytes(b"<html>not found</html>")
    whole = write(tmp_path / "nut" / "cut.jpg", noise=1, size=(200, 200))
    whole.write_bytes(whole.read_bytes()[:2000])
    refused(
        tmp_path,
        "31 images cannot be used",
        "bad00.jpg\n",
        "bad09.jpg\n",
        "and 20 more",
        "cut.jpg: image file is trunc",
    )


def test_truncated_files_are_listed(tmp_path):
    classes(tmp_path, count=3)
    path = write(tmp_path / "nut" / "cut.jpg", noise=1, size=(200, 200))
    path.write_bytes(path.read_bytes()[:2000])
    refused(tmp_path, "1 image cannot be used", "cut.jpg: ", "truncated")
    with pytest.raises(DataError, match=r"cut\.jpg"):
        read(tmp_path, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.part"))


def test_other_files_and_hidden_files_are_ignored(tmp_path):
    classes(tmp_path, count=3)
    (tmp_path / "nut" / "notes.txt").write_text("x")
    (tmp_path / "nut" / "._00.png").write_bytes(b"resource fork")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    write(tmp_path / "nut" / "deeper" / "x.JPG", noise=77)
    data = read(tmp_path)
    assert data.class_names == ("bolt", "nut")
    assert len(data.train) + len(data.validation) == 7


def test_invalid_folders_are_refused(tmp_path):
    refused(tmp_path / "absent", "data.root", "absent", "not a folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "no class folders")
    classes(tmp_path / "one", ("nut",))
    refused(tmp_path / "one", "only one class, 'nut'")
    classes(tmp_path / "gap")
    (tmp_path / "gap" / "washer").mkdir()
    refused(tmp_path / "gap", "no images in 'washer'", ".png")
    classes(tmp_path / "single", count=1)
    refused(tmp_path / "single", "class 'bolt' has 1 different image", "at least 2")


def test_contradicting_split_folders_are_refused(tmp_path):
    classes(tmp_path / "a" / "train")
    classes(tmp_path / "a" / "val", ("nut", "screw"))
    refused(tmp_path / "a", "validation has classes that train lacks: 'screw'", "'bolt', 'nut'")
    classes(tmp_path / "b" / "train")
    classes(tmp_path / "b" / "val")
    classes(tmp_path / "b" / "validation")
    refused(tmp_path / "b", "both 'val' and 'validation'")
    classes(tmp_path / "c" / "val")
    refused(tmp_path / "c", "'val' but no folder 'train'")
    classes(tmp_path / "d" / "train")
    classes(tmp_path / "d" / "test", ("screw",))
    with pytest.raises(DataError, match="test has classes that train lacks: 'screw'"):
        _ = read(tmp_path / "d").test


def test_all_problems_of_a_folder_are_reported_together(tmp_path):
    classes(tmp_path / "train", ("bolt", "nut", "wing nut"))
    classes(tmp_path / "val", ("bolt", "screw"), 2, start=1000)
    write(tmp_path / "train" / "nut" / "cut.jpg", noise=1, size=(200, 200))
    cut = tmp_path / "train" / "nut" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:3000])
    (tmp_path / "train" / "bolt" / "page.png").write_bytes(b"<html>")
    (tmp_path / "val" / "bolt" / "cut.png").write_bytes(write(tmp_path / "x.png", noise=5).read_bytes()[:200])
    (tmp_path / "train" / "washer").mkdir()
    (tmp_path / "train" / "washer" / "photo.heic").write_bytes(b"x")
    (tmp_path / "train" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "train" / "nut" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "train" / "nut" / "around").symlink_to(tmp_path / "train")
    refused(
        tmp_path,
        "3 problems",
        "no images in 'washer' (other files there: .heic)",
        "validation has classes that train lacks: 'screw'",
        "6 images cannot be used",
        "cut.jpg: image file is truncated",
        "page.png: not an image",
        "cut.png: ",
        "gone: a link to nothing",
        "lost.png: a link to nothing",
        "around: a link to a folder that contains it",
    )


def test_names_with_spaces_and_links_are_read(tmp_path):
    classes(tmp_path / "elsewhere", ("nut",), 3)
    classes(tmp_path / "in", ("wing nut",), 3, start=500, mode="L")
    (tmp_path / "in" / "nut").symlink_to(tmp_path / "elsewhere" / "nut")
    (tmp_path / "in" / "wing nut" / "more").symlink_to(tmp_path / "elsewhere" / "nut")
    data = read(tmp_path / "in")
    assert data.class_names == ("nut", "wing nut")
    assert data.channels == 3
    assert len(data.train) + len(data.validation) == 9


def test_a_link_to_the_folder_itself_is_not_a_class(tmp_path):
    classes(tmp_path, count=3)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    refused(tmp_path, "loop: a link to a folder that contains it", "self: a link to nothing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_without_permission_are_reported(tmp_path):
    classes(tmp_path, count=3)
    (tmp_path / "nut" / "00.png").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    try:
        refused(tmp_path, "2 images cannot be used", "00.png: Permission denied", "closed: Permission denied")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_images_without_class_folders_are_refused(tmp_path):
    for index in range(3):
        write(tmp_path / "train" / f"{index}.png", noise=index)
    refused(tmp_path, "no class folders; it directly holds 3 image files")


def test_first_frame_and_transparency_of_palettes(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert decode_image(tmp_path / "moving.gif", ImageSize.square(8), 3)[0, 0].tolist() == [255, 0, 0]
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 30, 90])
    palette.save(tmp_path / "seen.png")
    assert decode_image(tmp_path / "seen.png", ImageSize.square(8), 3)[0, 0].tolist() == [200, 30, 90]
    palette.save(tmp_path / "clear.png", transparency=1)
    assert decode_image(tmp_path / "clear.png", ImageSize.square(8), 3)[0, 0].tolist() == [255, 255, 255]


def test_reduced_decoding_of_large_photos_looks_the_same(tmp_path):
    rows, columns = np.mgrid[0:1024, 0:1536]
    smooth = np.stack([rows // 4, columns // 6, (rows + columns) // 10], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "photo.jpg", quality=95)
    Image.open(tmp_path / "photo.jpg").save(tmp_path / "photo.png")
    small, exact = (
        decode_image(tmp_path / name, ImageSize.square(64), 3).astype(int) for name in ("photo.jpg", "photo.png")
    )
    assert np.abs(small - exact).max() <= 3
