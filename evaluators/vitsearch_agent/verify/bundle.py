"""Reads a bundle: a folder that `vitsearch ship` wrote, or the zip of one."""

import contextlib
import os
import re
import tempfile
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent import artifacts
from vitsearch_agent.base import json_reader
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.base.plain_files import read_plain
from vitsearch_agent.errors import DamagedBundle, InvalidRequest
from vitsearch_agent.verify import checksums
from vitsearch_agent.verify.preprocessing import sides
from vitsearch_agent.verify.unpacking import is_zip, unpack
from vitsearch_agent.wire.job_spec import ARTIFACTS
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.metrics import Figure
from vitsearch_agent.wire.paired import ReferenceTimes

SCHEMA = 3
CHECKSUMS = checksums.CHECKSUMS
MANIFEST, PREPROCESSING, LABELS = "bundle.json", "preprocessing.json", "labels.json"
IMAGES, TRUTH, PREDICTIONS = "images/images.npy", "images/labels.npy", "images/predictions.npy"
REFERENCE, OUTPUTS = "images/reference.npy", "images/outputs.npy"
CLASSIFICATION, EMBEDDING, SEGMENTATION = "classification", "embedding", "segmentation"
"""The kinds of task whose metrics are computed here (`metrics`, `segmentation`)."""
QUALITIES = {EMBEDDING: ("cosine", "neighbours"), SEGMENTATION: ("mean_iou", "pixel_accuracy")}
"""The metrics that a bundle for such a task has, where it counts no images."""
IMAGES_MAX = 10000
"""The most images of a bundle whose outputs are compared: to find the neighbours takes the square of their number."""
JSON_MAX_BYTES = 4 << 20
"""The largest file of a bundle that is read as JSON."""
RUN_MAX_BYTES = 1 << 30
"""The most that the images of one run may take, as they are stored and as the model takes them."""


class Counted(NamedTuple):
    """How many of `n` images of a `split` (`test` or `validation`) the model classifies correctly."""

    split: str
    n: int
    correct: int

    @classmethod
    def from_json(cls, value: Any, where: str = "accuracy") -> "Counted":
        counted = cls(**json_reader.read_object(value, _COUNTED, where))
        if counted.correct > counted.n:
            raise InvalidRequest(f"{where}: {counted.correct} of {counted.n} images cannot be correct")
        return counted


_COUNTED = {
    "split": json_reader.one_of("test", "validation"),
    "n": json_reader.integer(1),
    "correct": json_reader.integer(),
}


class Quality(NamedTuple):
    """A metric of a task over `n` images with its 95 % interval, None where it has none."""

    value: float
    low: Optional[float]
    high: Optional[float]
    n: int

    @classmethod
    def from_json(cls, value: Any, where: str = "quality") -> "Quality":
        return cls(**json_reader.read_object(value, _QUALITY, where))


_QUALITY = json_reader.of_fields(Quality, n=json_reader.integer(1))


class Qualities(NamedTuple):
    """The metrics of a task other than classification: on all images of a `split`, and on those in the bundle, of
    which there are `images` (None without them, and then there are no metrics of them)."""

    split: str
    on_split: Mapping[str, Quality]
    images: Optional[int]
    on_images: Mapping[str, Quality]

    @classmethod
    def from_json(cls, value: Any, where: str = "qualities") -> "Qualities":
        return cls(**json_reader.read_object(value, _QUALITIES, where))

    def require(self, names: Tuple[str, ...], where: str) -> None:
        """Raise InvalidRequest where one of these metrics is missing."""
        for key, needed in (("on_split", True), ("on_images", self.images is not None)):
            missing = [name for name in names if name not in getattr(self, key)]
            if needed and missing:
                raise InvalidRequest(f"{where}.{key}: missing {', '.join(missing)}")


_QUALITIES: Mapping[str, json_reader.Reader] = {
    "split": json_reader.one_of("test", "validation"),
    "on_split": json_reader.mapping(Quality.from_json),
    "images": json_reader.optional(json_reader.integer(1, IMAGES_MAX)),
    "on_images": json_reader.mapping(Quality.from_json),
}
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")


class Task(NamedTuple):
    """What the model is for. Only the metrics of CLASSIFICATION, EMBEDDING and SEGMENTATION are computed here."""

    kind: str

    @classmethod
    def from_json(cls, value: Any, where: str = "task") -> "Task":
        task = cls(**json_reader.read_object(value, {"kind": json_reader.text}, where))
        if not _KIND.match(task.kind):
            raise InvalidRequest(f"{where}.kind: expected a name of small letters, got {task.kind[:80]!r}")
        return task


class MeasuringDevice(NamedTuple):
    """The device that measured the model. `environment` is its fingerprint (`conditions.environment`)."""

    name: str
    kind: str
    environment: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Any, where: str = "device") -> "MeasuringDevice":
        return cls(**json_reader.read_object(value, _DEVICE, where))


_DEVICE = {"name": json_reader.text, "kind": json_reader.text, "environment": json_reader.mapping()}


class Manifest(NamedTuple):
    """What `bundle.json` holds: how the model runs, and what was found when it was shipped.

    `model` is the file that the runtime opens. `accuracy` is that on all images of a split, `images` that on the images
    in the bundle (None without them), both in runs of `batch` images: of a classifier. A model for another task has
    `qualities` instead. `figures` are those of `device`, `reference_times` those of the reference models there, None
    where none ran.
    """

    schema: int
    name: str
    model: str
    artifact_key: str
    runtime: str
    runtime_version: str
    options: Mapping[str, Any]
    batch: int
    protocol: MeasureProtocol
    task: Task
    figures: Mapping[str, Figure]
    reference_times: Optional[ReferenceTimes]
    device: MeasuringDevice
    accuracy: Optional[Counted] = None
    images: Optional[Counted] = None
    qualities: Optional[Qualities] = None

    @classmethod
    def from_json(cls, value: Any) -> "Manifest":
        """Read the manifest of any task: its kind decides which keys it has."""
        first = {key: value[key] for key in ("schema", "task") if isinstance(value, dict) and key in value}
        parts = {key: _MANIFEST[key](part, f"{MANIFEST}.{key}") for key, part in first.items()}
        is_classifier = parts.get("task", Task(CLASSIFICATION)).kind == CLASSIFICATION
        readers = _OF_CLASSIFIERS if is_classifier else _OF_OTHERS
        manifest = cls(**json_reader.read_object(value, dict(_MANIFEST, **readers), MANIFEST))
        if manifest.qualities is not None:
            manifest.qualities.require(QUALITIES.get(manifest.task.kind, ()), f"{MANIFEST}.qualities")
        return manifest


_MANIFEST: Mapping[str, json_reader.Reader] = {
    "schema": json_reader.integer(SCHEMA, SCHEMA),
    "name": json_reader.text,
    "model": json_reader.one_of(*(names[0] for names in ARTIFACTS.values())),
    "artifact_key": json_reader.sha256,
    "runtime": json_reader.text,
    "runtime_version": json_reader.text,
    "options": json_reader.mapping(),
    "batch": json_reader.integer(1, 4096),
    "protocol": MeasureProtocol.from_json,
    "task": Task.from_json,
    "figures": json_reader.mapping(Figure.from_json),
    "reference_times": json_reader.optional(ReferenceTimes.from_json),
    "device": MeasuringDevice.from_json,
}
_OF_CLASSIFIERS: Mapping[str, json_reader.Reader] = {
    "accuracy": Counted.from_json,
    "images": json_reader.optional(Counted.from_json),
}
_OF_OTHERS: Mapping[str, json_reader.Reader] = {"qualities": Qualities.from_json}
_SIDE = json_reader.integer(1, 4096)
_BOTH_SIDES = json_reader.sequence(_SIDE, 2)


def _size(value: Any, where: str) -> Any:
    """Read the side of a square, or height and width."""
    if not isinstance(value, list):
        return _SIDE(value, where)
    height_and_width = _BOTH_SIDES(value, where)
    if len(height_and_width) != 2:
        raise InvalidRequest(f"{where}: expected a side, or height and width, got {len(value)} numbers")
    return list(height_and_width)


_PREPROCESSING: Mapping[str, json_reader.Reader] = {
    "image_size": _size,
    "channels": json_reader.integer(1, 3),
    "crop_size": _size,
    "interpolation": json_reader.one_of("bilinear", "bicubic"),
    "resolution": _size,
    "mean": json_reader.sequence(json_reader.number(-1e6, 1e6), 3),
    "std": json_reader.sequence(json_reader.number(1e-6, 1e6), 3),
}


class Bundle(NamedTuple):
    """A bundle in its folder."""

    folder: str
    manifest: Manifest
    preprocessing: Mapping[str, Any]
    labels: Tuple[str, ...]

    def path(self, name: str) -> str:
        return os.path.join(self.folder, *name.split("/"))

    @property
    def model_files(self) -> Dict[str, str]:
        """The files of the model by their names in a job."""
        return artifacts.model_files(self.path(self.manifest.model))


@contextlib.contextmanager
def opened(path: str) -> Iterator[str]:
    """Yield the folder of a bundle; a zip is unpacked for the time of the block.

    InvalidRequest if it is neither, DamagedBundle for a zip that cannot be unpacked.
    """
    if os.path.isdir(path):
        yield path
        return
    if not is_zip(path):
        raise InvalidRequest(f"{path} is not a bundle: neither a folder nor a zip of one")
    with tempfile.TemporaryDirectory(prefix="vitsearch-bundle-") as folder:
        unpack(path, folder)
        inside = os.listdir(folder)
        yield os.path.join(folder, inside[0]) if len(inside) == 1 else folder


def read(folder: str) -> Bundle:
    """Read what describes a bundle. InvalidRequest, which names the file, if it is missing or wrong."""
    manifest = Manifest.from_json(_json(folder, MANIFEST))
    preprocessing = json_reader.read_object(_json(folder, PREPROCESSING), _PREPROCESSING, PREPROCESSING)
    _check_preprocessing(preprocessing, manifest.batch)
    labels: Tuple[str, ...] = ()
    if manifest.task.kind in (CLASSIFICATION, SEGMENTATION) or os.path.lexists(os.path.join(folder, LABELS)):
        labels = json_reader.sequence(json_reader.text, 100000)(_json(folder, LABELS), LABELS)
    bundle = Bundle(folder, manifest, preprocessing, labels)
    for path in bundle.model_files.values():
        if not os.path.isfile(path):
            raise InvalidRequest(f"{folder} needs {os.path.relpath(path, folder)}, which is missing")
    return bundle


def _check_preprocessing(settings: Mapping[str, Any], batch: int) -> None:
    """Refuse settings that contradict each other, and those that would take the memory of this machine."""
    channels, size, crop = settings["channels"], settings["image_size"], settings["crop_size"]
    for name in ("mean", "std"):
        if len(settings[name]) != channels:
            raise InvalidRequest(f"{PREPROCESSING}.{name}: expected {channels} numbers, one for each channel")
    if channels == 2:
        raise InvalidRequest(f"{PREPROCESSING}.channels: expected 1 (grey) or 3 (colour), got 2")
    if any(part > side for part, side in zip(sides(crop), sides(size))):
        raise InvalidRequest(f"{PREPROCESSING}.crop_size: {crop} is more than the image_size {size}")
    needed = batch * bytes_of_image(settings)
    if needed > RUN_MAX_BYTES:
        raise InvalidRequest(
            f"{PREPROCESSING}: a run of {batch} images takes {needed} bytes, allowed are {RUN_MAX_BYTES}"
        )


def bytes_of_image(settings: Mapping[str, Any]) -> int:
    """Return the bytes of one image of a bundle in 32-bit numbers, where it is largest."""
    image, crop, result = (sides(settings[name]) for name in ("image_size", "crop_size", "resolution"))
    half_resized = crop[0], result[1]  # rows are resized after columns
    return int(4 * settings["channels"] * max(height * width for height, width in (image, half_resized, result)))


def _json(folder: str, name: str) -> Any:
    path = os.path.join(folder, name)
    try:
        return parse_json(read_plain(path, JSON_MAX_BYTES))
    except FileNotFoundError as error:
        raise InvalidRequest(f"{folder} is not a bundle of 'vitsearch ship': it has no {name}") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error


def damaged(folder: str) -> Tuple[int, List[str]]:
    """Compare the files of a bundle with its SHA256SUMS. Return their number, and what is wrong with each bad one.

    InvalidRequest without a list, DamagedBundle for one that was not written by 'vitsearch ship'.
    """
    listed = _checksums(folder)
    return len(listed), checksums.differences(folder, listed)


def have_equal_images(bundle: Bundle, other: Bundle) -> bool:
    """Whether two intact bundles hold the same images with the same labels or masks, or the same reference."""
    first, second = _checksums(bundle.folder), _checksums(other.folder)
    names = (IMAGES, TRUTH if bundle.manifest.task.kind in (CLASSIFICATION, SEGMENTATION) else REFERENCE)
    return all(name in first and first[name] == second.get(name) for name in names)


def _checksums(folder: str) -> Dict[str, str]:
    listed = checksums.parse(checksums.read_list(folder))
    if MANIFEST not in listed:
        raise DamagedBundle(f"{CHECKSUMS} does not list {MANIFEST}")
    return listed
