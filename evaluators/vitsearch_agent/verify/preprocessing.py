"""From image files to the input of the model. Every bundle holds a copy of this file.

`load` reads a file as the training images were read; it needs Pillow. `prepare` makes the input of the model from what
`load` returns; it needs NumPy alone. `settings` is the content of `preprocessing.json`:

    image_size     pixels a side of the images that `load` returns
    channels       1 (grey) or 3 (colour)
    crop_size      pixels a side of the centre of such an image that the model sees
    interpolation  how this centre is resized: bilinear or bicubic
    resolution     pixels a side of the model's input
    mean, std      of pixels in [0, 1], one number for each channel
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
    channels): the centre, resized, and `(pixel / 255 - mean) / std`. What is resized is antialiased.
    """
    import numpy

    crop, resolution, interpolation = (settings[name] for name in ("crop_size", "resolution", "interpolation"))
    pixels = numpy.asarray(images)
    top, left = ((side - crop) // 2 for side in pixels.shape[1:3])
    centre = pixels[:, top : top + crop, left : left + crop]
    values = numpy.ascontiguousarray(centre.transpose(0, 3, 1, 2)).astype(numpy.float32)
    values /= numpy.float32(255)
    if crop != resolution:
        shares = _weights(crop, resolution, interpolation)
        values = numpy.matmul(shares, numpy.matmul(values, shares.T))
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
