"""Reads a bundle: a folder that `vitsearch ship` wrote, or the zip of one."""

import contextlib
import os
import re
import tempfile
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from vitsearch_evaluators import artifacts
from vitsearch_evaluators.base import json_reader
from vitsearch_evaluators.base.canonical_json import file_digest, parse_json
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.verify.unpacking import is_zip, unpack
from vitsearch_evaluators.wire.job_spec import MeasureProtocol
from vitsearch_evaluators.wire.paired import ReferenceTimes

SCHEMA = 2
MANIFEST, CHECKSUMS, PREPROCESSING, LABELS = "bundle.json", "SHA256SUMS", "preprocessing.json", "labels.json"
IMAGES, TRUTH, PREDICTIONS = "images/images.npy", "images/labels.npy", "images/predictions.npy"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\Z")
_share = json_reader.number(0.0, 1.0)


class Counted(NamedTuple):
    """How many of `n` images of a `split` (`test` or `validation`) the model classifies correctly."""

    split: str
    n: int
    correct: int

    @classmethod
    def from_json(cls, value: Any, where: str = "accuracy") -> "Counted":
        return cls(**json_reader.read_object(value, _COUNTED, where))


_COUNTED = {
    "split": json_reader.one_of("test", "validation"),
    "n": json_reader.integer(1),
    "correct": json_reader.integer(),
}


class Figure(NamedTuple):
    """A measured value with its 95 % interval, None where it has none."""

    value: float
    low: Optional[float]
    high: Optional[float]

    @classmethod
    def from_json(cls, value: Any, where: str = "figure") -> "Figure":
        return cls(**json_reader.read_object(value, _FIGURE, where))


_number = json_reader.number()
_FIGURE = {"value": _number, "low": json_reader.optional(_number), "high": json_reader.optional(_number)}


class Device(NamedTuple):
    """The device that measured the model. `environment` is its fingerprint (`conditions.environment`)."""

    name: str
    kind: str
    environment: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Any, where: str = "device") -> "Device":
        return cls(**json_reader.read_object(value, _DEVICE, where))


_DEVICE = {"name": json_reader.text, "kind": json_reader.text, "environment": json_reader.mapping()}


class Manifest(NamedTuple):
    """What `bundle.json` holds: how the model runs, and what was found when it was shipped.

    `model` is the file that the runtime opens. `accuracy` is that on all images of a split, `images` that on the images
    in the bundle (None without them), both in runs of `batch` images. `figures` are those of `device`,
    `reference_times` those of the reference models there, None where none ran.
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
    accuracy: Counted
    images: Optional[Counted]
    figures: Mapping[str, Figure]
    reference_times: Optional[ReferenceTimes]
    device: Device

    @classmethod
    def from_json(cls, value: Any) -> "Manifest":
        return cls(**json_reader.read_object(value, _MANIFEST, MANIFEST))


_MANIFEST: Mapping[str, json_reader.Reader] = {
    "schema": json_reader.integer(SCHEMA, SCHEMA),
    "name": json_reader.text,
    "model": json_reader.one_of("model.onnx", "model.xml", "model.tflite", "model.mlmodel"),
    "artifact_key": json_reader.sha256,
    "runtime": json_reader.text,
    "runtime_version": json_reader.text,
    "options": json_reader.mapping(),
    "batch": json_reader.integer(1, 4096),
    "protocol": MeasureProtocol.from_json,
    "accuracy": Counted.from_json,
    "images": json_reader.optional(Counted.from_json),
    "figures": json_reader.mapping(Figure.from_json),
    "reference_times": json_reader.optional(ReferenceTimes.from_json),
    "device": Device.from_json,
}
_PREPROCESSING: Mapping[str, json_reader.Reader] = {
    "image_size": json_reader.integer(1, 4096),
    "channels": json_reader.integer(1, 3),
    "crop_size": json_reader.integer(1, 4096),
    "interpolation": json_reader.one_of("bilinear", "bicubic"),
    "resolution": json_reader.integer(1, 4096),
    "mean": json_reader.sequence(_number, 3),
    "std": json_reader.sequence(json_reader.number(1e-6), 3),
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
    labels = json_reader.sequence(json_reader.text, 100000)(_json(folder, LABELS), LABELS)
    return Bundle(folder, manifest, preprocessing, labels)


def _json(folder: str, name: str) -> Any:
    path = os.path.join(folder, name)
    try:
        with open(path, "rb") as stream:
            return parse_json(stream.read())
    except FileNotFoundError as error:
        raise InvalidRequest(f"{folder} is not a bundle of 'vitsearch ship': it has no {name}") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error


def damaged(folder: str) -> Tuple[int, List[str]]:
    """Compare the files of a bundle with its SHA256SUMS. Return their number, and what is wrong with each bad one.

    A file that is not listed is wrong too: Python imports a numpy.py beside example.py. InvalidRequest for a bundle
    without a usable list.
    """
    listed = _checksums(folder)
    wrong = []
    for name, sha256 in sorted(listed.items()):
        path = os.path.join(folder, *name.split("/"))
        if not os.path.isfile(path):
            wrong.append(f"{name} is missing")
        elif file_digest(path) != sha256:
            wrong.append(f"{name} was changed")
    added = sorted(name for name in _present(folder) if name not in listed and name != CHECKSUMS)
    return len(listed), wrong + [f"{name} was added" for name in added]


def have_equal_images(one: Bundle, other: Bundle) -> bool:
    """Whether two intact bundles hold the same labelled images."""
    first, second = _checksums(one.folder), _checksums(other.folder)
    return all(name in first and first[name] == second.get(name) for name in (IMAGES, TRUTH))


def _present(folder: str) -> Iterator[str]:
    """The files in the folder of a bundle, but for what Python writes when the example runs. A link to a folder counts
    as a file: no bundle has one."""
    for below, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names + [name for name in folders if os.path.islink(os.path.join(below, name))]:
            yield os.path.relpath(os.path.join(below, name), folder).replace(os.sep, "/")


def _checksums(folder: str) -> Dict[str, str]:
    path = os.path.join(folder, CHECKSUMS)
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{folder} is not a bundle of 'vitsearch ship': it has no readable {CHECKSUMS}") from error
    found = [_LINE.match(line) for line in lines]
    listed = {match.group(2): match.group(1) for match in found if match is not None}
    names = [name for name in listed if name.startswith("/") or ".." in name.split("/")]
    if None in found or names or MANIFEST not in listed:
        raise InvalidRequest(f"{path}: expected a line 'sha256  name' for each file of the bundle")
    return listed
