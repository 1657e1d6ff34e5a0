"""From image files to the input of the model. Every bundle holds a copy of this file.

`load` reads a file as the training images were read; it needs Pillow. `prepare` makes the input of the model from what
`load` returns; it needs NumPy alone. `settings` is the content of `preprocessing.json`:

    image_size   pixels a side of the images that `load` returns
    channels     1 (grey) or 3 (colour)
    resolution   pixels a side of the model's input
    mean, std    of pixels in [0, 1], one number for each channel
"""

from typing import Any, Mapping

_SPARE = 2  # a JPEG is decoded at this multiple of the size or more, so that the resizing decides its look
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def load(path: str, settings: Mapping[str, Any]) -> Any:
    """Return the image in a file, uint8 (image_size, image_size, channels).

    The image is turned as its EXIF data says, transparent pixels become white, the mode becomes grey or colour, the
    shorter side is resized to `image_size` (bicubic, antialiased), and the centre is cropped. 16-bit images keep their
    upper 8 bits; of several frames the first is used.
    """
    import numpy
    from PIL import Image, ImageOps

    size, channels = settings["image_size"], settings["channels"]
    with Image.open(path) as image:
        if image.format == "JPEG":
            image.draft(None, (_SPARE * size, _SPARE * size))
        flat = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    bicubic = getattr(Image, "Resampling", Image).BICUBIC
    return numpy.asarray(ImageOps.fit(flat, (size, size), bicubic), dtype=numpy.uint8).reshape(size, size, channels)


def prepare(images: Any, settings: Mapping[str, Any]) -> Any:
    """Return the input of the model, float32 (N, channels, resolution, resolution), for uint8 (N, height, width,
    channels): `(pixel / 255 - mean) / std`.

    Images of another size are resized first, bilinear and antialiased.
    """
    import numpy

    values = numpy.ascontiguousarray(numpy.asarray(images).transpose(0, 3, 1, 2)).astype(numpy.float32)
    values /= numpy.float32(255)
    resolution = settings["resolution"]
    if values.shape[2:] != (resolution, resolution):
        down, across = (_weights(size, resolution) for size in values.shape[2:])
        values = numpy.matmul(down, numpy.matmul(values, across.T))
    mean, std = (numpy.array(settings[name], numpy.float32).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    return numpy.ascontiguousarray((values - mean) / std)


def _flat(image: Any, mode: str) -> Any:
    """The image without transparency, in 8 bits and of one mode."""
    import numpy
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating point images are not supported")
    if image.mode.startswith("I"):
        values = numpy.asarray(image).astype(numpy.int64) >> 8
        image = Image.fromarray(values.clip(0, 255).astype(numpy.uint8))
    palette = image.palette.mode if image.mode == "P" and image.palette is not None else ""
    if image.mode in _TRANSPARENT or "transparency" in image.info or palette.endswith("A"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _weights(old: int, new: int) -> Any:
    """The share of each of `old` pixels in each of `new` ones, float32 (new, old): triangles as wide as the new pixels,
    at least as the old ones, as torch's `interpolate(mode="bilinear", antialias=True)` has them, in its arithmetic."""
    import numpy

    one, half = numpy.float32(1), numpy.float32(0.5)
    scale = numpy.float32(old) / numpy.float32(new)
    support = max(scale, one)
    rows = numpy.zeros((new, old), numpy.float32)
    for index in range(new):
        centre = scale * (numpy.float32(index) + half)
        first, last = max(int(centre - support + half), 0), min(int(centre + support + half), old)
        offsets = numpy.arange(first, last, dtype=numpy.float32) - centre + half
        shares = numpy.maximum(numpy.float32(0), one - abs(offsets * (one / support)))
        rows[index, first:last] = shares / shares.sum()
    return rows
