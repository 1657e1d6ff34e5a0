"""Splits of data sets that timm reads, opened through its ``create_dataset``, with messages of our own.

timm's data sets replace an image that cannot be read by the next one, or leave it out; here it is kept
and told: the files behind the data set are read, and decoded by :mod:`.pixels` like everything else.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vitsearch.data.pixels import UNREADABLE, reason
from vitsearch.data.spec import DataSpec
from vitsearch.errors import DataError
from vitsearch.sources import kind_of

_READ_ERRORS = (*UNREADABLE, KeyError, TypeError, AssertionError)
_OPEN_ERRORS = (*_READ_ERRORS, RuntimeError, ImportError, IndexError)
_WDS_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
_HANDLED = re.compile(r"^Handling webdataset error \((.*)\)\. Ignoring\.$", re.DOTALL)
_LOADED_FROM_PATHS = ("folder", "image_folder", "imagenet", "inat", "inaturalist", "places365")


@dataclass(frozen=True)
class Broken:
    """In place of an image that cannot be read."""

    why: str


@dataclass(frozen=True)
class Sample:
    """``row`` is the place in the split."""

    row: int
    content: bytes | Image.Image | Broken
    label: Any = None

    @property
    def name(self) -> str:
        return f"image {self.row}"


class OpenSplit(Protocol):
    """One split. ``class_names`` is empty where labels are bare numbers; ``stamp`` changes with the files."""

    @property
    def where(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def stamp(self) -> list[Any]: ...
    def __len__(self) -> int: ...
    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        """The samples at ``rows`` (rising), in the same order every time."""


def open_split(spec: DataSpec, split: str) -> OpenSplit:
    """:class:`DataError` for a set or split that is not there, and for a library that is missing."""
    kind = kind_of(spec.source)
    with told(spec, f"{spec.source}, split {split!r}" if split else spec.source):
        return _OPEN[kind](spec, split)


@contextmanager
def told(spec: DataSpec, where: str) -> Iterator[None]:
    """Turns what timm and the libraries behind it raise into one :class:`DataError`."""
    kind = kind_of(spec.source)
    for package in {"hfds": ("datasets",), "wds": ("webdataset",)}.get(kind, ()):
        if importlib.util.find_spec(package) is None:
            raise DataError(f"source {spec.source} needs the package {package}: pip install 'vitsearch[{kind}]'")
    expected: tuple[type[Exception], ...] = _OPEN_ERRORS
    with ExitStack() as closing:
        if kind == "hfds":
            from datasets.exceptions import DatasetsError

            closing.enter_context(_quiet_hub(spec.download))
            expected = (*_OPEN_ERRORS, DatasetsError)
        try:
            yield
        except expected as error:
            raise DataError(f"{where}: {_explained(spec, error)}") from error


def _explained(spec: DataSpec, error: Exception) -> str:
    text = str(error).partition("\n")[0] or f"timm refuses it without a reason ({type(error).__name__})"
    if "download=True" in text:
        return f"not found in {_root(spec)}, or damaged; put it there, or set data.download: true to fetch it"
    if "save_to_disk" in text:
        return "the folder was written by save_to_disk, which timm cannot read; write it with to_parquet instead"
    if isinstance(error, ConnectionError) and not spec.download:
        return (
            "not in the cache of Hugging Face data sets on this machine, and data.download is false; "
            f"set it to true to fetch it, or give a folder (hfds/./FOLDER) ({text})"
        )
    if isinstance(error, ConnectionError):
        return f"the hub cannot be reached, and the set is not in the cache on this machine ({text})"
    if isinstance(error, KeyError):
        return f"{text} is missing in what describes the set"
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}: pip install {error.name}"
    return text


@contextmanager
def _quiet_hub(download: bool) -> Iterator[None]:
    """Without ``download`` the libraries are kept from the network, as HF_HUB_OFFLINE=1 does."""
    import datasets
    from huggingface_hub import constants

    settings = (constants, datasets.config)
    before = [setting.HF_HUB_OFFLINE for setting in settings]
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        for setting, offline in zip(settings, before, strict=True):
            setting.HF_HUB_OFFLINE = offline or not download
        yield
    finally:
        for setting, offline in zip(settings, before, strict=True):
            setting.HF_HUB_OFFLINE = offline
        if shown:
            datasets.enable_progress_bars()


# ---- data sets with random access


@dataclass(frozen=True)
class MapSplit:
    """``get(row)`` gives what can be read as an image, and its label."""

    where: str
    class_names: tuple[str, ...]
    stamp: list[Any]
    count: int
    get: Callable[[int], tuple[Any, Any]]

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        for row in rows:
            try:
                content, label = self.get(row)
                yield Sample(row, _content(content), label)
            except UNREADABLE as error:
                yield Sample(row, Broken(reason(error)))
            except (AssertionError, KeyError, TypeError):  # timm's reader, where the column holds nothing
                yield Sample(row, Broken("there is no image"))


def _content(given: Any) -> bytes | Image.Image:
    if isinstance(given, Image.Image):
        return given
    if isinstance(given, str):
        return Path(given).read_bytes()
    with given:
        return bytes(given.read())


def _open_torch(spec: DataSpec, split: str) -> OpenSplit:
    from timm.data import create_dataset

    root, name = _root(spec), spec.source.partition("/")[2]
    if name in ("folder", "image_folder"):
        root = root / split
    options: dict[str, Any] = {"download": spec.download, "search_split": False}
    if not spec.download and not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    if name in _LOADED_FROM_PATHS:
        options["loader"] = str  # the path as it is: we read the file
    dataset = create_dataset(spec.source, root=str(root), split=split or "train", **options)
    names = getattr(dataset, "classes", None) or dataset.all_categories  # the latter of iNaturalist
    where = f"{spec.source}, split {split!r}" if split else spec.source
    return MapSplit(where, _distinct(names), _stamp(_files_of(dataset, root)), len(dataset), dataset.__getitem__)


def _files_of(dataset: Any, root: Path) -> Path:
    """The folder of this set below a root that may hold several."""
    if raw := getattr(dataset, "raw_folder", None):
        return Path(raw)
    return Path(dataset.root, getattr(dataset, "base_folder", "")) if getattr(dataset, "root", None) else root


def _open_hfds(spec: DataSpec, split: str) -> OpenSplit:
    import datasets
    from timm.data import create_dataset

    keys = {"input_key": spec.input_key or "image", "target_key": spec.target_key or "label"}
    name, root = hub_name(spec), None if spec.root is None else str(_root(spec))
    columns = datasets.load_dataset(name, split=split, cache_dir=root).column_names
    for option, key in keys.items():
        if key.partition("/")[0] not in columns:  # timm opens it all the same
            raise DataError(f"data.{option}: {spec.source} has no column {key!r}; it has {', '.join(columns)}")
    dataset = create_dataset(f"hfds/{name}", root=root, split=split, **keys)
    reader = dataset.reader
    names = _distinct(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
    stamp = [reader.dataset._fingerprint]
    return MapSplit(f"{spec.source}, split {split!r}", names, stamp, len(reader), reader.__getitem__)


def hub_name(spec: DataSpec) -> str:
    """The folder or the hub's name behind ``hfds/``."""
    name = os.path.expanduser(spec.source.partition("/")[2])
    if name.startswith(("/", ".")) and not os.path.isdir(name):
        raise DataError(f"data.source: {name} is not a folder")
    return name


def _open_tar(spec: DataSpec, split: str) -> OpenSplit:
    from timm.data import create_dataset

    path = _root(spec) / split if split else _root(spec)
    reader = create_dataset("", root=str(path), search_split=False).reader
    names = _distinct(sorted(reader.class_name_to_idx, key=reader.class_name_to_idx.__getitem__))
    return MapSplit(str(path), names, _stamp(path), len(reader), reader.__getitem__)


# ---- data sets that can only be read from the start


@dataclass(frozen=True)
class StreamSplit:
    """``start()`` begins anew; what is left out on the way is written to the logger of ``log``."""

    where: str
    stamp: list[Any]
    count: int
    start: Callable[[], Iterator[tuple[Image.Image, Any]]]
    log: str
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        chosen, last = frozenset(rows), max(rows, default=-1)
        with _logged(self.log) as problems:
            told = row = 0
            for image, label in self._until_refused(problems):
                yield from (Sample(row + told + more, Broken(why)) for more, why in enumerate(problems[told:]))
                told = len(problems)
                if row + told in chosen:
                    yield Sample(row + told, image, label)
                row += 1
                if row + told > last and last < self.count - 1:
                    return
            yield from (Sample(row + told + more, Broken(why)) for more, why in enumerate(problems[told:]))

    def _until_refused(self, problems: list[str]) -> Iterator[tuple[Image.Image, Any]]:
        """To some samples timm objects so much that it ends there."""
        try:
            yield from self.start()
        except _READ_ERRORS as error:
            problems.append(str(error) or type(error).__name__)


@contextmanager
def _logged(name: str) -> Iterator[list[str]]:
    """The warnings of a logger, kept from the screen."""
    logger, messages = logging.getLogger(name), list[str]()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(_HANDLED.sub(r"\1", record.getMessage()))

    collector, propagated = Collector(logging.WARNING), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated


def _open_wds(spec: DataSpec, split: str) -> OpenSplit:
    from timm.data import create_dataset

    root = _root(spec)
    given = spec.input_key.split(";") if spec.input_key else _WDS_IMAGES
    dataset = create_dataset(
        spec.source,
        root=str(root),
        split=split,
        input_img_mode="",  # as it is stored, to tell grey from colour
        input_key=";".join(dict.fromkeys([*given, "jpg"])),  # timm hands the image on under this name
        target_key=spec.target_key,
    )
    shards = [root / name for name in dataset.reader.split_info.filenames]
    missing = [path for path in shards if not path.is_file()]
    if missing:
        raise DataError(f"{root}: _info.json lists shards that are not there: {', '.join(map(str, missing[:5]))}")
    if not len(dataset):
        raise DataError(f"{root}: _info.json says num_samples 0 for split {split!r}")
    where, stamp = f"{spec.source}, split {split!r}", [entry for path in shards for entry in _stamp(path)]
    return StreamSplit(where, stamp, len(dataset), lambda: iter(dataset), "timm.data.readers.reader_wds")


_OPEN: dict[str, Callable[[DataSpec, str], OpenSplit]] = {
    "torch": _open_torch,
    "hfds": _open_hfds,
    "tar": _open_tar,
    "wds": _open_wds,
}


def _root(spec: DataSpec) -> Path:
    return Path(spec.root or "").expanduser()


def _distinct(names: Sequence[Any]) -> tuple[str, ...]:
    """As text; ImageNet gives several words for a class, and one word for two classes."""
    found = [name if isinstance(name, str) else ", ".join(name) for name in names]
    return tuple(f"{name} ({index})" if found.count(name) > 1 else name for index, name in enumerate(found))


def _stamp(path: Path) -> list[Any]:
    """Name, size and modification time of a file, or of every file of a folder."""
    if path.is_file():
        status = path.stat()
        return [[path.name, status.st_size, status.st_mtime_ns]]
    entries = []
    for folder, folders, files in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            if file.exists():
                status = file.stat()
                entries.append([file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns])
    return entries
