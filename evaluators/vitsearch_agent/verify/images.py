"""The labelled images that a bundle is judged by: its own, or those of a folder."""

import os
import warnings
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

from vitsearch_agent.base.npy import read_header
from vitsearch_agent.base.plain_files import open_plain
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.verify.bundle import IMAGES, PREDICTIONS, TRUTH, Bundle, bytes_of_image
from vitsearch_agent.verify.preprocessing import load, prepare

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FILE_MAX_BYTES = 512 << 20
"""The largest image file that is read. It has at most the pixels that Pillow decodes without a warning (89 million)."""
_CHUNK_BYTES = 64 << 20


class Images(NamedTuple):
    """Images with their labels (int64). `read(first, last)` gives uint8 (count, height, width, channels).

    `expected` are the classes that the model gave them when it was shipped, None where that is not known.
    """

    source: str
    labels: Any
    read: Callable[[int, int], Any]
    expected: Optional[Any] = None


def of_bundle(bundle: Bundle) -> Images:
    """Return the images in a bundle: uint8 (n, side, side, channels) when they are read, labels int64 (n,)."""
    counted = bundle.manifest.images
    n = 0 if counted is None else counted.n
    side = bundle.preprocessing["image_size"]
    images = _array(bundle, IMAGES, "|u1", (n, side, side, bundle.preprocessing["channels"]))
    labels = _array(bundle, TRUTH, "<i8", (n,))
    expected = _array(bundle, PREDICTIONS, "<i8", (n,))
    return Images("the images in the bundle", labels, lambda first, last: images[first:last], expected)


def _array(bundle: Bundle, name: str, dtype: str, shape: Tuple[int, ...]) -> Any:
    """Return an array of a bundle, from its file as it is needed; InvalidRequest for any but the one expected. Its
    header is checked before NumPy opens it, and nothing is unpickled."""
    import numpy

    try:
        header = read_header(bundle.path(name), name)
    except OSError as error:
        raise InvalidRequest(f"{bundle.path(name)} cannot be read: {error.strerror}") from error
    if (header.dtype, header.shape) != (dtype, shape):
        raise InvalidRequest(f"{name}: expected {dtype} of shape {shape}, got {header.dtype} of shape {header.shape}")
    return numpy.memmap(bundle.path(name), dtype, "r", header.offset, shape)


def of_folder(folder: str, bundle: Bundle) -> Images:
    """Return the images in FOLDER/CLASS, or FOLDER/test/CLASS, as the model takes them: uint8 (n, side, side, channels)
    when they are read. InvalidRequest for a folder of an unknown class, a file that cannot be read, and where Pillow is
    missing."""
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

    return Images(root, numpy.array([label for _, label in files], "<i8"), read)


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
    """The files of a subset (`npy.check_subset`), and the rows of the images in it."""

    images: str
    labels: str
    rows: slice


def chunks(images: Images, bundle: Bundle, folder: str) -> Iterator[Chunk]:
    """Write the inputs of the model, float32 (n, C, H, W), and their labels to files in `folder`, a part at a time, and
    yield each part.

    Each part but the last has whole runs of the bundle's batch, so that the parts do not change what a run computes.
    """
    import numpy

    settings, batch = bundle.preprocessing, bundle.manifest.batch
    step = max(_CHUNK_BYTES // bytes_of_image(settings) // batch, 1) * batch
    paths: List[str] = [os.path.join(folder, name) for name in ("images.npy", "labels.npy")]
    for first in range(0, len(images.labels), step):
        rows = slice(first, min(first + step, len(images.labels)))
        numpy.save(paths[0], prepare(images.read(rows.start, rows.stop), settings).astype("<f4"))
        numpy.save(paths[1], images.labels[rows])
        yield Chunk(paths[0], paths[1], rows)
