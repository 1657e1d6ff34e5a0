"""From image files to the input of the model. Every bundle holds a copy of this file.

`load` reads a file as the training images were read; it needs Pillow. `prepare` makes the input of the model from what
`load` returns; it needs NumPy alone. `settings` is the content of `preprocessing.json`:

    image_size     size in pixels of the images that `load` returns
    channels       1 (grey) or 3 (colour)
    crop_size      size of the centre of such an image that the model sees; it has the shape of the model's input
    interpolation  how this centre is resized: bilinear or bicubic
    resolution     size of the model's input
    mean, std      of pixels in [0, 1], one number for each channel

A size is the side of a square, or a list of height and width.
"""

from typing import Any, Mapping, Tuple

_SPARE = 2  # a JPEG is decoded at this multiple of the size or more, so that the resizing decides its look
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def sides(size: Any) -> Tuple[int, int]:
    """Return height and width of a size: the side of a square, or a list of both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def load(path: str, settings: Mapping[str, Any]) -> Any:
    """Return the image in a file, uint8 (height, width, channels) of `image_size`.

    The image is turned as its EXIF data says, transparent pixels become white, the mode becomes grey or colour, the
    image is resized so that it covers `image_size` (bicubic, antialiased; of a square, its shorter side has that size),
    and the centre is cropped. So no image is squashed. 16-bit images keep their upper 8 bits; of several frames the
    first is used.
    """
    import numpy
    from PIL import Image, ImageOps

    (height, width), channels = sides(settings["image_size"]), settings["channels"]
    # Given a path, Pillow maps an uncompressed TIFF file, and scrambles one that EXIF turns.
    with open(path, "rb") as stream, Image.open(stream) as image:
        if image.format == "JPEG":
            least = _SPARE * max(height, width)  # both ways, as EXIF may turn the image
            image.draft(None, (least, least))
        flat = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    bicubic = getattr(Image, "Resampling", Image).BICUBIC
    fitted = ImageOps.fit(flat, (width, height), bicubic)
    return numpy.asarray(fitted, dtype=numpy.uint8).reshape(height, width, channels)


def prepare(images: Any, settings: Mapping[str, Any]) -> Any:
    """Return the input of the model, float32 (N, channels, height, width) of `resolution`, for uint8 (N, height, width,
    channels) of `image_size`: the centre, resized, and `(pixel / 255 - mean) / std`. What is resized is antialiased.
    """
    import numpy

    crop, resolution = (sides(settings[name]) for name in ("crop_size", "resolution"))
    interpolation = settings["interpolation"]
    pixels = numpy.asarray(images)
    top, left = ((side - part) // 2 for side, part in zip(pixels.shape[1:3], crop))
    centre = pixels[:, top : top + crop[0], left : left + crop[1]]
    values = numpy.ascontiguousarray(centre.transpose(0, 3, 1, 2)).astype(numpy.float32)
    values /= numpy.float32(255)
    if crop != resolution:
        down, across = (_weights(old, new, interpolation) for old, new in zip(crop, resolution))
        values = numpy.matmul(down, numpy.matmul(values, across.T))
        if interpolation == "bicubic":
            values = values.clip(0, 1)  # it overshoots at edges, where 8-bit images are cut off
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


def _weights(old: int, new: int, interpolation: str) -> Any:
    """The share of each of `old` pixels in each of `new` ones, float32 (new, old): triangles, or the cubics of Keys
    (1981), as wide as the new pixels, at least as the old ones, as torch's `interpolate(antialias=True)` has them, in
    its arithmetic."""
    import numpy

    unit, half = numpy.float32(1), numpy.float32(0.5)
    scale = numpy.float32(old) / numpy.float32(new)
    width = max(scale, unit)
    shape, reach = (_triangle, 1) if interpolation == "bilinear" else (_cubic, 2)
    support = numpy.float32(reach) * width
    rows = numpy.zeros((new, old), numpy.float32)
    for index in range(new):
        centre = scale * (numpy.float32(index) + half)
        first, last = max(int(centre - support + half), 0), min(int(centre + support + half), old)
        offsets = numpy.arange(first, last, dtype=numpy.float32) - centre + half
        shares = shape(abs(offsets * (unit / width)))
        rows[index, first:last] = shares / shares.sum()
    return rows


def _triangle(distances: Any) -> Any:
    import numpy

    return numpy.maximum(numpy.float32(0), numpy.float32(1) - distances)


def _cubic(distances: Any) -> Any:
    """With the slope -0.5, as Pillow and antialiasing torch have it."""
    import numpy

    slope = numpy.float32(-0.5)
    near = ((slope + 2) * distances - (slope + 3)) * distances * distances + 1
    far = (((distances - 5) * distances + 8) * distances - 4) * slope
    return numpy.where(distances < 1, near, numpy.where(distances < 2, far, 0)).astype(numpy.float32)
