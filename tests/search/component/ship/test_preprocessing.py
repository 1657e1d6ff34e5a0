"""The preprocessing of bundles, which needs NumPy and Pillow alone, is the one of the search."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vitsearch.data.pixels import decode_image
from vitsearch.data.tensors import to_tensor
from vitsearch_evaluators.verify.preprocessing import load, prepare

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
@pytest.mark.parametrize("name", IMAGES)
def test_a_file_is_read_as_the_search_reads_it(tmp_path, name, channels):
    path = tmp_path / name
    IMAGES[name].save(path)
    found = load(str(path), {"image_size": 40, "channels": channels})
    assert (found == decode_image(path, 40, channels)).all()


@pytest.mark.parametrize(("size", "resolution"), [(28, 28), (28, 20), (64, 224), (224, 192), (33, 37)])
def test_the_input_of_the_model_is_the_one_of_the_search(size, resolution):
    images = DRAW.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    found = prepare(images, {"resolution": resolution, "mean": list(mean), "std": list(std)})
    expected = to_tensor(images, resolution, mean, std).numpy()
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if size == resolution else 2e-6)
