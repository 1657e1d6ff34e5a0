"""Opening of the splits of a data set through timm's `create_dataset`.

timm's readers load torch, and `datasets` is optional: only the function that opens such a set imports them.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.core.data_sources import kind_of
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.messages import raises_data_error
from vitsearch.data.timm_sets.read import MapSplit, OpenSplit, StreamSplit
from vitsearch.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_WDS_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
_LOADED_FROM_PATHS = ("folder", "image_folder", "imagenet", "inat", "inaturalist", "places365")


def open_split(spec: DataSpec, split: str) -> OpenSplit:
    """Open one split. Raises `DataError` when the set, the split or a library is missing."""
    kind = kind_of(spec.source)
    with raises_data_error(spec, f"{spec.source}, split {split!r}" if split else spec.source):
        return _OPEN[kind](spec, split)


def _open_torch(spec: DataSpec, split: str) -> OpenSplit:
    from timm.data import create_dataset

    root, name = _root(spec), spec.source.partition("/")[2]
    if name in ("folder", "image_folder"):
        root = root / split
    options: dict[str, Any] = {"download": spec.download, "search_split": False}
    if not spec.download and not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    if name in _LOADED_FROM_PATHS:
        options["loader"] = str  # return the path itself: MapSplit reads the file
    dataset = create_dataset(spec.source, root=str(root), split=split or "train", **options)
    names = getattr(dataset, "classes", None) or dataset.all_categories  # iNaturalist has only the latter
    where = f"{spec.source}, split {split!r}" if split else spec.source
    return MapSplit(where, _distinct(names), _stamp(_files_of(dataset, root)), len(dataset), dataset.__getitem__)


def _files_of(dataset: Any, root: Path) -> Path:
    """The folder of this set, below a root that may hold several sets."""
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
        if key.partition("/")[0] not in columns:  # timm would open the set without an error
            raise DataError(f"data.{option}: {spec.source} has no column {key!r}; it has {', '.join(columns)}")
    dataset = create_dataset(f"hfds/{name}", root=root, split=split, **keys)
    reader = dataset.reader
    names = _distinct(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
    stamp = [reader.dataset._fingerprint]
    return MapSplit(f"{spec.source}, split {split!r}", names, stamp, len(reader), reader.__getitem__)


def hub_name(spec: DataSpec) -> str:
    """The folder, or the name on the hub, that follows `hfds/`."""
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


def _open_wds(spec: DataSpec, split: str) -> OpenSplit:
    from timm.data import create_dataset

    root = _root(spec)
    image_keys = spec.input_key.split(";") if spec.input_key else _WDS_IMAGES
    dataset = create_dataset(
        spec.source,
        root=str(root),
        split=split,
        input_img_mode="",  # keeps the stored mode, so that grey stays grey
        input_key=";".join(dict.fromkeys([*image_keys, "jpg"])),  # timm stores the decoded image under the key jpg
        target_key=spec.target_key,
    )
    shards = [root / name for name in dataset.reader.split_info.filenames]
    missing = [path for path in shards if not path.is_file()]
    if missing:
        raise DataError(f"{root}: _info.json lists shards that do not exist: {', '.join(map(str, missing[:5]))}")
    if not len(dataset):
        raise DataError(f"{root}: _info.json has num_samples 0 for split {split!r}; at least 1 is needed")
    where, stamp = f"{spec.source}, split {split!r}", [entry for path in shards for entry in _stamp(path)]

    def start() -> Iterator[tuple[Image.Image, Any]]:
        for path in shards:
            _require_tar(path)
        yield from dataset

    return StreamSplit(where, stamp, len(dataset), start, "timm.data.readers.reader_wds")


def _require_tar(path: Path) -> None:
    """Refuse a shard whose headers name more than the file has: webdataset would read for ever, or skip the rest."""
    try:
        with tarfile.open(path) as tar:
            for _ in tar:
                pass
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error) as error:
        raise DataError(f"{path} is not a tar file, or is cut off or damaged") from error


_OPEN: dict[str, Callable[[DataSpec, str], OpenSplit]] = {
    "torch": _open_torch,
    "hfds": _open_hfds,
    "tar": _open_tar,
    "wds": _open_wds,
}


def _root(spec: DataSpec) -> Path:
    """Absolute: webdataset takes what begins with `pipe:` for a command of a shell."""
    return Path(spec.root or "").expanduser().absolute()


def _distinct(names: Sequence[Any]) -> tuple[str, ...]:
    """Class names as distinct texts: ImageNet has several words for one class, and one word for two classes."""
    texts = [name if isinstance(name, str) else ", ".join(name) for name in names]
    times = Counter(texts)
    return tuple(f"{name} ({index})" if times[name] > 1 else name for index, name in enumerate(texts))


def _stamp(path: Path) -> list[Any]:
    """Name, size and modification time of a file, or of every file below a folder and behind its links, which
    torchvision follows too."""
    files = [(path.name, path)] if path.is_file() else [(it.relative_to(path).as_posix(), it) for it in _below(path)]
    return [[name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in files]


def _below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files of a folder; a link that leads back to a folder `above` is not followed."""
    real = folder.resolve()
    try:
        entries = [] if real in above else sorted(folder.iterdir())
    except OSError:  # the set says what it cannot read
        return
    for entry in entries:
        if entry.is_dir():
            yield from _below(entry, (*above, real))
        elif entry.exists():
            yield entry
