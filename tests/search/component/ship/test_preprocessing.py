"""The preprocessing of bundles, which needs NumPy and Pillow alone, is the one of the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import ModelView, Preprocessing
from vitsearch.data.pixels import decode_image
from vitsearch.data.tensors import to_tensor
from vitsearch_agent.verify.preprocessing import load, prepare

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (61, 83, 4), dtype=np.uint8)
COLOUR = Image.fromarray(PIXELS[..., :3])


def transparent_palette():
    image = COLOUR.convert("P")
    image.info["transparency"] = 3
    return image


IMAGES = {
    "colour.png": COLOUR,
    "colour.jpg": COLOUR.resize((700, 500)),  # large enough for a JPEG to be decoded at a smaller size
    "grey.png": Image.fromarray(PIXELS[..., 0]),
    "grey_alpha.png": Image.fromarray(PIXELS[..., :2]),
    "alpha.png": Image.fromarray(PIXELS),
    "palette.png": COLOUR.convert("P"),
    "transparent_palette.png": transparent_palette(),
    "bilevel.png": Image.fromarray(PIXELS[..., 0]).convert("1"),
    "cmyk.jpg": COLOUR.convert("CMYK"),
    "sixteen_bits.png": Image.fromarray(DRAW.integers(0, 2**16, (61, 83), dtype=np.uint16)),
    "animated.gif": COLOUR.convert("P"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [40, [24, 40], [40, 24]])
@pytest.mark.parametrize("name", IMAGES)
def test_a_file_is_read_as_the_search_reads_it(tmp_path, name, size, channels):
    path = tmp_path / name
    IMAGES[name].save(path)
    pixels = load(str(path), {"image_size": size, "channels": channels})
    assert pixels.shape == (*ImageSize.of(size).sides, channels)
    assert (pixels == decode_image(path, ImageSize.of(size), channels)).all()


def test_an_uncompressed_tiff_file_that_exif_turns_is_upright_in_both(tmp_path):
    turned, exif = Image.fromarray(PIXELS[..., 0]).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(tmp_path / "turned.tif", exif=exif)
    for pixels in (
        load(str(tmp_path / "turned.tif"), {"image_size": [61, 83], "channels": 1}),
        decode_image(tmp_path / "turned.tif", ImageSize(61, 83), 1),
    ):
        assert (pixels[..., 0] == PIXELS[..., 0]).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("size", "crop_share", "resolution"),
    [(28, 1.0, 28), (28, 1.0, 20), (64, 1.0, 224), (224, 1.0, 192), (33, 1.0, 37), (249, 0.9, 224), (32, 0.875, 40)]
    + [([64, 96], 1.0, [64, 96]), ([71, 107], 0.9, [64, 96]), ([40, 60], 1.0, [64, 96])]
    + [([64, 96], 1.0, 48), (60, 1.0, [40, 24]), ([96, 64], 0.9, [24, 64]), ([64, 96], 1.0, [64, 48])],
)
def test_the_input_of_the_model_is_the_one_of_the_search(size, crop_share, resolution, interpolation):
    stored, wanted = ImageSize.of(size), ImageSize.of(resolution)
    images = DRAW.integers(0, 256, (3, *stored.sides, 3), dtype=np.uint8)
    preprocessing = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), interpolation, crop_share)
    pixels = prepare(images, ModelView(wanted, preprocessing).settings(stored, 3))
    expected = to_tensor(images, wanted, preprocessing).numpy()
    assert expected.shape == (3, 3, *wanted.sides)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    is_resized = preprocessing.crop_size(stored, wanted) != wanted
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-5 if is_resized else 0)


def test_a_crop_is_the_centre_of_the_image():
    images = DRAW.integers(0, 256, (2, 40, 40, 1), dtype=np.uint8)
    plain, cropped = Preprocessing((0.0,), (1.0,)), Preprocessing((0.0,), (1.0,), crop_share=0.8)
    assert torch.equal(
        to_tensor(images, ImageSize.square(32), cropped), to_tensor(images[:, 4:36, 4:36], ImageSize.square(32), plain)
    )
