"""The user's own images with masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from support.png_files import COLOUR, COLOUR_ALPHA, GREY, GREY_ALPHA, PALETTE, png
from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, load
from vitsearch.data.folders.masked import decode_mask
from vitsearch.data.review import notes, notes_of_masks, review
from vitsearch.errors import DataError

CLASSES = ("road", "tree", "sky")


def write(root, split="train", count=4, size=(24, 32)):
    """Images of one colour for each class, in bands, with their masks."""
    height, width = size
    for name in ("images", "masks"):
        (root / split / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        mask = np.arange(height)[:, None].repeat(width, 1) * len(CLASSES) // height
        mask[0, 0] = 255
        pixels = (mask * 80 + index).astype(np.uint8)
        Image.fromarray(pixels).save(root / split / "images" / f"{index}.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / split / "masks" / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def spec_of(root, **more):
    return DataSpec("folder", root=str(root), labels="masks", **more)


def test_images_and_masks_are_pairs_in_one_order(tmp_path):
    write(write(tmp_path), "val", count=2)
    data = load(spec_of(tmp_path), None)
    assert data.class_names == CLASSES
    assert (data.train.images.shape, data.train.labels.shape) == ((4, 24, 32, 1), (4, 24, 32))
    assert data.train.labels[0, 0, 0] == 255
    assert np.unique(data.train.labels).tolist() == [0, 1, 2, 255]
    assert (np.diff(data.train.images[:, -1, 0, 0].astype(int)) == 1).all()
    assert len(data.validation) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_class(tmp_path):
    write(write(tmp_path), "val")
    (tmp_path / "classes.txt").write_text("\ufeff" + "\r\n".join([*CLASSES, "", ""]), encoding="utf-8")
    assert load(spec_of(tmp_path), None).class_names == CLASSES


def test_masks_are_cut_and_resized_as_their_images_are(tmp_path):
    data = load(spec_of(write(tmp_path), image_size=ImageSize.square(12)), None)
    assert data.train.labels.shape[1:] == (12, 12)
    agree = np.abs(data.train.images[0, :, :, 0].astype(int) - 80 * data.train.labels[0]) < 30
    assert agree.mean() > 0.9


def test_what_was_decoded_before_is_the_same_from_the_cache(tmp_path):
    write(write(tmp_path / "data"), "val")
    first, second = (load(spec_of(tmp_path / "data"), tmp_path / "cache") for _ in range(2))
    assert first.identity == second.identity
    assert np.array_equal(first.validation.labels, second.validation.labels)
    assert load(spec_of(tmp_path / "data"), None).identity == first.identity


@pytest.mark.parametrize("transparent", [b"", b"\0\1"])
@pytest.mark.parametrize(
    ("bits", "colour_type"), [(bits, colour_type) for bits in (1, 2, 4, 8) for colour_type in (GREY, PALETTE)]
)
def test_the_index_of_a_class_is_the_number_in_the_file(tmp_path, bits, colour_type, transparent):
    values = np.arange(24 * 37).reshape(24, 37) % 2**bits  # of 37 pixels of 1 to 4 bits, no row fills its bytes
    (tmp_path / "mask.png").write_bytes(png(values, bits, colour_type, transparent))
    assert np.array_equal(decode_mask(tmp_path / "mask.png", None), values)
    twice = decode_mask(tmp_path / "mask.png", ImageSize(48, 74))
    assert np.array_equal(twice, values.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("bits", [2, 4])
def test_masks_of_few_bits_are_read_as_those_of_8(tmp_path, bits):
    before = load(spec_of(write(write(tmp_path), "val")), None)
    for path in tmp_path.glob("*/masks/*.png"):
        values = np.asarray(Image.open(path)).copy()
        values[0, 0] = 0  # 255 needs 8 bits
        Image.fromarray(values).save(path)
    of_8_bits = load(spec_of(tmp_path), None)
    for path in tmp_path.glob("*/masks/*.png"):
        path.write_bytes(png(np.asarray(Image.open(path)), bits, GREY))
    few = load(spec_of(tmp_path), None)
    assert few.identity == of_8_bits.identity != before.identity
    assert review(spec_of(tmp_path)).layout.splits["train"].counts == (4, 4, 4)


def test_the_largest_number_of_few_bits_is_a_class_and_not_ignored(tmp_path):
    write(write(tmp_path), "val")
    (tmp_path / "train" / "masks" / "1.png").write_bytes(png(np.full((24, 32), 15), 4, GREY))
    with pytest.raises(DataError, match="1.png.*15"):
        review(spec_of(tmp_path))


@pytest.mark.parametrize(
    ("bits", "colour_type", "numbers", "said"),
    [
        (16, GREY, 1, "masks of 16 bits for a pixel; write 8"),
        *((bits, COLOUR, 3, "masks with several numbers for a pixel") for bits in (8, 16)),
        *((bits, GREY_ALPHA, 2, "masks with several numbers for a pixel") for bits in (8, 16)),
        *((bits, COLOUR_ALPHA, 4, "masks with several numbers for a pixel") for bits in (8, 16)),
    ],
)
def test_other_png_files_are_refused_by_name(tmp_path, bits, colour_type, numbers, said):
    write(write(tmp_path), "val")
    values = np.ones((24, 32, numbers), np.int64)
    (tmp_path / "train" / "masks" / "1.png").write_bytes(png(values, bits, colour_type))
    with pytest.raises(DataError, match=rf"{said}.* \(1\): masks/1\.png"):
        load(spec_of(tmp_path), None)


@pytest.mark.parametrize("file_format", ["JPEG", "GIF", "BMP", "TIFF", "PPM"])
def test_a_mask_of_another_format_is_refused_whatever_it_is_called(tmp_path, file_format):
    path = write(write(tmp_path), "val") / "train" / "masks" / "1.png"
    Image.new("L", (32, 24), 1).save(path, format=file_format)
    with pytest.raises(DataError, match=r"masks in other files than PNG.* \(1\): masks/1\.png"):
        load(spec_of(tmp_path), None)


def turn(root, name, ending, turned=6):
    """Store a training image on its side, with the EXIF orientation that says so."""
    path = root / "train" / "images" / f"{name}.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(ending), exif=exif)
    if ending != ".png":
        path.unlink()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_a_mask_fits_its_image_as_exif_turns_it(tmp_path, ending):
    turn(write(write(tmp_path), "val"), "2", ending)
    data = load(spec_of(tmp_path), None)
    assert data.train.images.shape[1:3] == (24, 32)
    agree = np.abs(data.train.images[2].mean(axis=-1) - 80 * data.train.labels[2].astype(int)) < 30
    assert agree.mean() > 0.9


def test_exif_data_behind_the_pixels_of_a_png_file_turns_it_too(tmp_path):
    turn(write(write(tmp_path), "val"), "2", ".png")
    path = tmp_path / "train" / "images" / "2.png"
    content = path.read_bytes()
    at = content.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(content[at : at + 4], "big")
    path.write_bytes(content[:at] + content[end:-12] + content[at:end] + content[-12:])  # IEND is the last
    assert load(spec_of(tmp_path), None).train.images.shape[1:3] == (24, 32)


def test_a_mask_of_the_pixels_that_exif_turns_is_refused(tmp_path):
    turn(write(write(tmp_path), "val"), "2", ".jpg")
    mask = tmp_path / "train" / "masks" / "2.png"
    with Image.open(mask) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(mask)
    with pytest.raises(DataError, match=r"masks/2.png is 32x24, its image 24x32 \(height x width, each turned"):
        load(spec_of(tmp_path), None)


def test_another_mask_is_other_data(tmp_path):
    before = load(spec_of(write(tmp_path)), None).identity
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "train" / "masks" / "0.png")
    assert load(spec_of(tmp_path), None).identity != before


def test_the_classes_are_counted_by_the_images_that_have_them(tmp_path):
    write(write(write(tmp_path), "val", count=2), "test", count=3)
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "train" / "masks" / "0.png")
    layout = review(spec_of(tmp_path)).layout
    assert layout.splits["train"].counts == (4, 3, 3)
    assert [layout.splits[name].images for name in ("train", "validation", "test")] == [4, 2, 3]


WRONG = {
    "a mask is missing": (lambda root: (root / "masks" / "1.png").unlink(), "images without a mask (1): images/1.png"),
    "an image is missing": (
        lambda root: (root / "images" / "1.png").unlink(),
        "masks without an image (1): masks/1.png",
    ),
    "a size differs": (
        lambda root: Image.new("L", (8, 8)).save(root / "masks" / "2.png"),
        "masks of another size than their image (1): masks/2.png is 8x8, its image 24x32",
    ),
    "a mask in colour": (
        lambda root: Image.new("RGB", (32, 24)).save(root / "masks" / "2.png"),
        "masks with several numbers for a pixel, such as a colour; write one, the index of its class (1): masks/2.png",
    ),
    "a mask in which no pixel counts": (
        lambda root: Image.new("L", (32, 24), 255).save(root / "masks" / "2.png"),
        "2.png: every pixel is 255, so none counts; leave image and mask out",
    ),
    "a mask of 16 bits": (
        lambda root: Image.fromarray(np.zeros((24, 32), np.uint16)).save(root / "masks" / "2.png"),
        "masks of 16 bits for a pixel; write 8 (1): masks/2.png",
    ),
    "a mask in a JPEG file": (
        lambda root: Image.open((root / "masks" / "2.png").rename(root / "2.png")).save(root / "masks" / "2.JPG"),
        "masks in other files than PNG, which may not keep the indices of classes; write PNG (1): masks/2.JPG",
    ),
    "a line without a class": (
        lambda root: (root.parent / "classes.txt").write_text("road\n\ntree\n \nsky\n\n"),
        "classes.txt: has no name in line 2, 4; line N names the class of index N - 1, so give it a name or remove it",
    ),
    "a value is no class": (
        lambda root: Image.new("L", (32, 24), 9).save(root / "masks" / "3.png"),
        "masks/3.png: has the value 9; allowed: 0 to 2, as classes.txt names 3 classes, and 255 for pixels that count",
    ),
    "a class without a name": (
        lambda root: Image.new("L", (32, 24), 3).save(root / "masks" / "3.png"),
        "and 255 for pixels that count for nothing; if 3 is a class, classes.txt lacks its name",
    ),
    "no classes": (lambda root: (root.parent / "classes.txt").unlink(), "classes.txt: No such file or directory"),
    "a class twice": (
        lambda root: (root.parent / "classes.txt").write_text("a\nb\nb\n"),
        "classes.txt: lists 'b' more than once",
    ),
    "no masks": (
        lambda root: [path.unlink() for path in (root / "masks").iterdir()] + [(root / "masks").rmdir()],
        "has no folder 'masks'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_check_names_the_files_that_are_wrong(tmp_path, case):
    spoil, expected = WRONG[case]
    spoil(write(write(tmp_path), "val") / "train")
    with pytest.raises(DataError) as error:
        review(spec_of(tmp_path))
    assert expected in str(error.value)


def test_six_faults_are_named_at_once(tmp_path):
    train = write(write(tmp_path, count=9), "val") / "train"
    (train / "masks" / "0.png").unlink()
    (train / "images" / "1.png").unlink()
    Image.new("L", (8, 8)).save(train / "masks" / "2.png")
    Image.new("RGB", (32, 24)).save(train / "masks" / "3.png")
    Image.new("L", (32, 24), 9).save(train / "masks" / "4.png")
    (train / "masks" / "5.png").write_text("no image")
    Image.new("L", (32, 24), 7).save(tmp_path / "val" / "masks" / "1.png")
    with pytest.raises(DataError) as error:
        review(spec_of(tmp_path))
    said = str(error.value)
    for words in (
        "images without a mask (1): images/0.png",
        "masks without an image (1): masks/1.png",
        "masks/2.png is 8x8",
        "such as a colour; write one, the index of its class (1): masks/3.png",
        "train/masks/4.png: has the value 9",
        "train/masks/5.png: not an image, or damaged",
        "val/masks/1.png: has the value 7",
    ):
        assert words in said


def without(root, *classes):
    """The masks of the folder with other values, as `classes` says of each."""
    for path in (root / "train" / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.array([*classes, *range(len(classes), 256)], np.uint8)[mask]).save(path)


def of_review_and_run(root):
    """What `check` and a run say of the data."""
    spec = spec_of(root)
    return [lambda: review(spec).warnings, lambda: notes_of_masks(load(spec, None))]


def test_masks_of_0_and_255_are_refused_as_nothing_can_be_learnt(tmp_path):
    without(write(write(tmp_path), "val"), 0, 255, 255)
    (tmp_path / "classes.txt").write_text("background\nobject\ntree\n")
    for say in of_review_and_run(tmp_path):
        with pytest.raises(DataError, match=r"no training mask has .* 2 of 3 classes: 'object' \(1\).* not 255"):
            say()


def test_a_class_that_no_training_mask_has_is_named(tmp_path):
    without(write(write(tmp_path), "val"), 0, 255, 2)
    for say in of_review_and_run(tmp_path):
        (line,) = (line for line in say() if line.startswith("no training mask"))
        assert line.startswith("no training mask has a pixel of 1 of 3 classes: 'tree' (1); no model learns them")


def test_nothing_is_said_of_masks_that_have_all_classes(tmp_path):
    write(write(tmp_path), "val")
    assert notes_of_masks(load(spec_of(tmp_path), None)) == []


def test_images_whose_sides_are_cut_off_are_named_with_the_share(tmp_path):
    write(write(tmp_path, size=(18, 32)), "val", count=2, size=(18, 18))
    spec = spec_of(tmp_path, image_size=ImageSize.square(12))
    for said in (review(spec).warnings, notes(spec, tmp_path / "cache")):
        (line,) = (line for line in said if "cut off" in line)
        assert line.startswith("4 of 6 images have another shape than 12x12 (height x width), in which they are stored")
        assert "44 % of their pixels, and of their masks, are cut off at the sides (train/images/0.png is 18x32" in line


@pytest.mark.parametrize("stored", [(9, 16), (160, 288)])
def test_nothing_is_said_of_images_that_are_whole_but_for_a_step_of_a_backbone(tmp_path, stored):
    write(write(tmp_path, size=(18, 32)), "val", size=(18, 32))
    assert not any("cut off" in line for line in notes(spec_of(tmp_path, image_size=ImageSize(*stored)), tmp_path))
