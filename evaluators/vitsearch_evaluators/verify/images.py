"""The labelled images that a bundle is judged by: its own, or those of a folder."""

import os
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.verify.bundle import IMAGES, PREDICTIONS, TRUTH, Bundle
from vitsearch_evaluators.verify.preprocessing import load, prepare

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
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
    """Return the images in a bundle."""
    import numpy

    images = numpy.load(bundle.path(IMAGES), mmap_mode="r", allow_pickle=False)
    labels = numpy.load(bundle.path(TRUTH), allow_pickle=False).astype("<i8")
    expected = numpy.load(bundle.path(PREDICTIONS), allow_pickle=False)
    if images.ndim != 4 or images.dtype != numpy.uint8 or not len(images) == len(labels) == len(expected) > 0:
        raise InvalidRequest(f"{bundle.path(IMAGES)}: expected uint8 images with as many labels and predictions")
    return Images("the images in the bundle", labels, lambda first, last: images[first:last], expected)


def of_folder(folder: str, bundle: Bundle) -> Images:
    """Return the images in FOLDER/CLASS, or FOLDER/test/CLASS, as the model takes them; InvalidRequest for a folder of
    an unknown class, a file that cannot be read, and where Pillow is missing."""
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
    try:
        return load(path, bundle.preprocessing)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error


class Chunk(NamedTuple):
    """The files of a subset (`npy.check_subset`), and the rows of the images in it."""

    images: str
    labels: str
    rows: slice


def chunks(images: Images, bundle: Bundle, folder: str) -> Iterator[Chunk]:
    """Write the inputs of the model to files in `folder`, a part at a time, and yield each part.

    Each part but the last has whole runs of the bundle's batch, so that the parts do not change what a run computes.
    """
    import numpy

    settings, batch = bundle.preprocessing, bundle.manifest.batch
    one = 4 * settings["channels"] * settings["resolution"] ** 2
    step = max(_CHUNK_BYTES // one // batch, 1) * batch
    paths: List[str] = [os.path.join(folder, name) for name in ("images.npy", "labels.npy")]
    for first in range(0, len(images.labels), step):
        rows = slice(first, min(first + step, len(images.labels)))
        numpy.save(paths[0], prepare(images.read(rows.start, rows.stop), settings).astype("<f4"))
        numpy.save(paths[1], images.labels[rows])
        yield Chunk(paths[0], paths[1], rows)
