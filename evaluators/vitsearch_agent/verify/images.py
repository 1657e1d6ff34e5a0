"""The images that a bundle is judged by: its own, or those of a folder; and what it was shipped with beside them."""

import os
import warnings
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple

from vitsearch_agent.base.npy import Header, read_header
from vitsearch_agent.base.plain_files import open_plain
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.verify.bundle import IMAGES, PREDICTIONS, TRUTH, Bundle, bytes_of_image
from vitsearch_agent.verify.preprocessing import load, prepare, sides
from vitsearch_agent.wire.results import OUTPUTS_MAX_BYTES, bytes_of

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FILE_MAX_BYTES = 512 << 20
"""The largest image file that is read. It has at most the pixels that Pillow decodes without a warning (89 million)."""
_CHUNK_BYTES = 64 << 20


class Images(NamedTuple):
    """`n` images. `read(first, last)` gives uint8 (count, height, width, channels).

    `labels` are those of a classifier (int64), `expected` the classes that the model gave them when it was shipped;
    None where that is not known.
    """

    source: str
    n: int
    read: Callable[[int, int], Any]
    labels: Optional[Any] = None
    expected: Optional[Any] = None


def of_bundle(bundle: Bundle) -> Images:
    """Return the images in the bundle of a classifier: uint8 (n, height, width, channels) when they are read, labels
    int64 (n,)."""
    counted = bundle.manifest.images
    n = 0 if counted is None else counted.n
    images = without_labels(bundle, n)
    return images._replace(labels=_array(bundle, TRUTH, "<i8", (n,)), expected=_array(bundle, PREDICTIONS, "<i8", (n,)))


def without_labels(bundle: Bundle, n: int) -> Images:
    """Return the `n` images in a bundle: uint8 (n, height, width, channels) when they are read."""
    height, width = sides(bundle.preprocessing["image_size"])
    images = _array(bundle, IMAGES, "|u1", (n, height, width, bundle.preprocessing["channels"]))
    return Images("the images in the bundle", n, lambda first, last: images[first:last])


def outputs_of(bundle: Bundle, name: str, n: int, axes: Optional[int] = None) -> Any:
    """Return the outputs of `n` images in a file of a bundle: finite float32 (n, ...), with `axes` axes if given.

    InvalidRequest for anything else, and for more than the outputs of one job.
    """
    import numpy

    header = _header(bundle, name)
    shape = header.shape
    fits = header.dtype == "<f4" and shape[:1] == (n,) and 0 not in shape and axes in (None, len(shape))
    if not fits:
        wanted = "outputs" if axes is None else f"{axes} axes"
        raise InvalidRequest(f"{name}: expected <f4, {n} x {wanted}, got {header.dtype} of shape {shape}")
    if bytes_of(shape, 4) > OUTPUTS_MAX_BYTES:
        raise InvalidRequest(f"{name}: {bytes_of(shape, 4)} bytes, allowed are {OUTPUTS_MAX_BYTES}")
    values = numpy.array(numpy.memmap(bundle.path(name), "<f4", "r", header.offset, shape))
    if not numpy.isfinite(values).all():
        raise InvalidRequest(f"{name}: NaN or infinity among its numbers")
    return values


def maps_of(bundle: Bundle, name: str, n: int) -> Any:
    """Return the maps of classes of `n` images in a file of a bundle: uint8 (n, height, width).

    InvalidRequest for anything else, and for more than the outputs of one job.
    """
    header = _header(bundle, name)
    shape = header.shape
    if header.dtype != "|u1" or len(shape) != 3 or shape[0] != n or 0 in shape:
        raise InvalidRequest(f"{name}: expected |u1, {n} x height x width, got {header.dtype} of shape {shape}")
    if bytes_of(shape, 1) > OUTPUTS_MAX_BYTES:
        raise InvalidRequest(f"{name}: {bytes_of(shape, 1)} bytes, allowed are {OUTPUTS_MAX_BYTES}")
    return _array(bundle, name, "|u1", shape)


def _array(bundle: Bundle, name: str, dtype: str, shape: Tuple[int, ...]) -> Any:
    """Return an array of a bundle, from its file as it is needed; InvalidRequest for any but the one expected."""
    import numpy

    header = _header(bundle, name)
    if (header.dtype, header.shape) != (dtype, shape):
        raise InvalidRequest(f"{name}: expected {dtype} of shape {shape}, got {header.dtype} of shape {header.shape}")
    return numpy.memmap(bundle.path(name), dtype, "r", header.offset, shape)


def _header(bundle: Bundle, name: str) -> Header:
    """Return the header of an array, checked before NumPy opens the file; nothing is unpickled."""
    try:
        return read_header(bundle.path(name), name)
    except OSError as error:
        raise InvalidRequest(f"{bundle.path(name)} cannot be read: {error.strerror}") from error


def of_folder(folder: str, bundle: Bundle) -> Images:
    """Return the images in FOLDER/CLASS, or FOLDER/test/CLASS, as the model takes them: uint8 (n, height, width,
    channels) when they are read. InvalidRequest for a folder of an unknown class, a file that cannot be read, and where
    Pillow is missing."""
    import numpy

    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise InvalidRequest("--data reads image files, which needs Pillow: pip install pillow") from error
    root = os.path.join(folder, "test") if os.path.isdir(os.path.join(folder, "test")) else folder
    files = list(_files(root, bundle))
    if not files:
        raise InvalidRequest(f"--data {folder}: no images; expected {folder}/CLASS/*.jpg")

    def read(first: int, last: int) -> Any:
        return numpy.stack([_loaded(path, bundle) for path, _ in files[first:last]])

    return Images(root, len(files), read, numpy.array([label for _, label in files], "<i8"))


def _files(root: str, bundle: Bundle) -> Iterator[Tuple[str, int]]:
    try:
        names = sorted(
            name for name in os.listdir(root) if not _is_hidden(name) and os.path.isdir(os.path.join(root, name))
        )
    except OSError as error:
        raise InvalidRequest(f"--data {root} is not a folder") from error
    unknown = [name for name in names if name not in bundle.labels]
    if unknown:
        raise InvalidRequest(
            f"--data {root}: the folder {unknown[0]!r} is not a class of the model; its classes are "
            f"{', '.join(map(repr, bundle.labels[:20]))}"
        )
    for name in names:
        for path in _below(os.path.join(root, name), (os.path.realpath(root),)):
            if path.lower().endswith(SUFFIXES):
                yield path, bundle.labels.index(name)


def _below(folder: str, around: Tuple[str, ...]) -> Iterator[str]:
    """Yield the files of a folder as the search reads it: without hidden ones, links followed but for those to one of
    the folders `around` it."""
    here = os.path.realpath(folder)
    if here in around:
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be read: {error.strerror}") from error
    for name in names:
        path = os.path.join(folder, name)
        if _is_hidden(name):
            continue
        if os.path.isdir(path):
            yield from _below(path, around + (here,))
        else:
            yield path


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _loaded(path: str, bundle: Bundle) -> Any:
    from PIL import Image

    try:
        with open_plain(path, links=True) as stream:
            if os.fstat(stream.fileno()).st_size > FILE_MAX_BYTES:
                raise InvalidRequest(f"{path} has more than {FILE_MAX_BYTES} bytes")
        with warnings.catch_warnings():
            # Pillow warns of an image with more pixels than Image.MAX_IMAGE_PIXELS before it decodes it.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return load(path, bundle.preprocessing)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from error
    except InvalidRequest:
        raise
    except Exception as error:  # a crafted file can have Pillow raise anything
        raise InvalidRequest(f"{path} cannot be read: {error or type(error).__name__}") from error


class Chunk(NamedTuple):
    """A file of images for the model (`npy.check_images`), and their rows among all images."""

    images: str
    rows: slice


def chunks(images: Images, bundle: Bundle, folder: str) -> Iterator[Chunk]:
    """Write the inputs of the model, float32 (n, C, H, W), to a file in `folder`, and yield one part after another.

    Each part but the last has whole runs of the bundle's batch, so that the parts do not change what a run computes.
    """
    import numpy

    settings, batch = bundle.preprocessing, bundle.manifest.batch
    step = max(_CHUNK_BYTES // bytes_of_image(settings) // batch, 1) * batch
    path = os.path.join(folder, "images.npy")
    for first in range(0, images.n, step):
        rows = slice(first, min(first + step, images.n))
        numpy.save(path, prepare(images.read(rows.start, rows.stop), settings).astype("<f4"))
        yield Chunk(path, rows)


def not_finite(outputs: Any) -> int:
    """Return how many images have an output that is no number."""
    import numpy

    return len(outputs) - int(numpy.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1).sum())
