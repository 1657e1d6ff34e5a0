"""What is asked of a device: the measuring protocol, the job, its id and its owner."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_evaluators.base import json_reader
from vitsearch_evaluators.base.canonical_json import digest
from vitsearch_evaluators.errors import InvalidRequest

JOB_ID_SCHEMA = 1
"""Raised by hand when the meaning of a job id changes; results of the old schema are then new."""

ARTIFACTS: Mapping[str, Tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "tflite": ("model.tflite",),
    "openvino": ("model.xml", "model.bin"),
}
"""Kind of model -> its files, the one that a runtime opens first."""

ARTIFACT_NAMES = tuple(name for names in ARTIFACTS.values() for name in names)

SUBSET_NAMES = ("images.npy", "labels.npy")
"""The files of a validation subset: images (N, C, H, W), float32 or uint8, as the model takes them, and
labels (N), int64 or int32, both little endian."""

FILE_NAMES = ARTIFACT_NAMES + SUBSET_NAMES
"""The only file names a job may name: nothing that a client writes becomes a path."""

JOB_KINDS = ("measure", "accuracy", "peaks")

MINIMUM_RUNS = 11
"""The fewest runs whose median may be reported (early stopping at 99 % confidence)."""


class MeasureProtocol(NamedTuple):
    """How one measurement is taken. Equal protocols give comparable numbers.

    Each of `processes` fresh processes warms up until both `warmup_min_runs` and `warmup_min_s`
    are reached and times have settled (or `min_s` more have passed), then samples until it has
    `min_runs` runs or `min_s` seconds, whichever comes first, and never fewer than 11 runs. A
    process that lives longer than `max_s` seconds (and what its phase takes by itself) is killed
    and the measurement fails as `timeout`.

    The phases below are further processes, each asked for by its seconds: `throughput_s` with
    `streams` inferences at a time; `soak_s` of load before the same samples are taken again
    (`sustained`); `power_s` of load between two rests of `idle_s` while the meter is read.
    Before the first process the device cools down to `start_max_c` (None: it starts as it is), before
    each further one to 3 C above what the first one started at, each time for `cooldown_max_s` at most.
    """

    id: str
    warmup_min_runs: int
    warmup_min_s: float
    min_runs: int
    min_s: float
    max_s: float
    processes: int
    threads: int
    batch: int
    throughput_s: float = 0.0
    streams: int = 1
    soak_s: float = 0.0
    power_s: float = 0.0
    idle_s: float = 0.0
    start_max_c: Optional[float] = None
    cooldown_max_s: float = 0.0

    def to_json(self) -> Dict[str, Any]:
        """Phases that are not asked for are left out."""
        given = {key: value for key, value in self._asdict().items() if value != _UNASKED.get(key, ...)}
        # 2 and 2.0 seconds are the same protocol and must give the same job id.
        return {key: float(value) if key.endswith(("_s", "_c")) else value for key, value in given.items()}

    @classmethod
    def from_json(cls, value: Any, where: str = "protocol") -> "MeasureProtocol":
        return cls(**json_reader.read_object(value, _PROTOCOL, where, _UNASKED))


_PROTOCOL = {
    "id": json_reader.text,
    "warmup_min_runs": json_reader.integer(0, 10000),
    "warmup_min_s": json_reader.number(0, 600),
    "min_runs": json_reader.integer(MINIMUM_RUNS, 5000),
    "min_s": json_reader.number(0, 3600),
    "max_s": json_reader.number(0.1, 7200),
    "processes": json_reader.integer(1, 8),
    "threads": json_reader.integer(1, 256),
    "batch": json_reader.integer(1, 4096),
    "throughput_s": json_reader.number(0, 3600),
    "streams": json_reader.integer(1, 256),
    "soak_s": json_reader.number(0, 7200),
    "power_s": json_reader.number(0, 3600),
    "idle_s": json_reader.number(0, 600),
    "start_max_c": json_reader.optional(json_reader.number(-40, 150)),
    "cooldown_max_s": json_reader.number(0, 3600),
}
_UNASKED: Dict[str, Any] = {
    "throughput_s": 0.0,
    "streams": 1,
    "soak_s": 0.0,
    "power_s": 0.0,
    "idle_s": 0.0,
    "start_max_c": None,
    "cooldown_max_s": 0.0,
}

SCREEN = MeasureProtocol(
    id="screen-1",
    warmup_min_runs=20,
    warmup_min_s=0.2,
    min_runs=200,
    min_s=2.0,
    max_s=180.0,
    processes=1,
    threads=1,
    batch=1,
)
# Together 1,000 runs, enough for p99. Five processes: the interval rests on how their medians differ.
CONFIRM = SCREEN._replace(id="confirm-2", min_runs=200, max_s=300.0, processes=5)
ACCURACY = SCREEN._replace(id="accuracy-1", batch=16, max_s=3600.0)
PEAKS = SCREEN._replace(id="peaks-1", min_s=1.0)
PROTOCOLS = {"screen": SCREEN, "confirm": CONFIRM}


class BlobRef(NamedTuple):
    """One file of an artifact: its role, its content and its size in bytes."""

    name: str
    sha256: str
    size: int

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "blob") -> "BlobRef":
        blob = cls(**json_reader.read_object(value, _BLOB, where))
        if blob.name not in FILE_NAMES:
            allowed = ", ".join(FILE_NAMES)
            raise InvalidRequest(f"{where}.name: {blob.name!r} is not one of {allowed}")
        return blob


_BLOB = {"name": json_reader.text, "sha256": json_reader.sha256, "size": json_reader.integer(1, 2**40)}


class Owner(NamedTuple):
    """Who asked. It decides the order of the queue and is no part of the job id."""

    study: str
    trial: Optional[int] = None

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "owner") -> "Owner":
        return cls(**json_reader.read_object(value, _OWNER, where))


_OWNER = {"study": json_reader.text, "trial": json_reader.optional(json_reader.integer())}


class JobSpec(NamedTuple):
    """One job. `options` are those of the runtime, each checked against the runtime's own list.

    Its kind says what is in the manifest: a model (`measure`), a model and a subset (`accuracy`), nothing
    (`peaks`, which asks for the device's own peaks). An accuracy job has no use for a protocol but for
    `threads`, `batch` and `max_s`, a peaks job for `threads`, `min_s` and `max_s`.

    `repeat` tells apart measurements that are alike in everything else: 0, 1, 2, ...
    """

    kind: str
    manifest: Tuple[BlobRef, ...]
    runtime: str
    options: Mapping[str, Any]
    protocol: MeasureProtocol
    repeat: int = 0

    def to_json(self) -> Dict[str, Any]:
        return {
            "kind": self.kind,
            "manifest": [blob.to_json() for blob in self.manifest],
            "runtime": self.runtime,
            "options": dict(self.options),
            "protocol": self.protocol.to_json(),
            "repeat": self.repeat,
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "spec") -> "JobSpec":
        spec = cls(**json_reader.read_object(value, _SPEC, where))
        if spec.kind not in JOB_KINDS:
            raise InvalidRequest(f"{where}.kind: {spec.kind!r} is not one of {JOB_KINDS}")
        has_model, others = _MANIFESTS[spec.kind]
        is_right = _kind(spec.model) is not None if has_model else not spec.model
        rest = sorted(blob.name for blob in spec.manifest if blob.name not in ARTIFACT_NAMES)
        if not is_right or rest != sorted(others):
            given = " and ".join(blob.name for blob in spec.manifest) or "nothing"
            raise InvalidRequest(f"{where}.manifest: needs exactly {_needed(spec.kind)}; got {given}")
        return spec

    @property
    def model(self) -> Tuple[BlobRef, ...]:
        """The files of the model."""
        return tuple(blob for blob in self.manifest if blob.name in ARTIFACT_NAMES)

    @property
    def artifact_kind(self) -> str:
        """What kind of model it is: a key of ARTIFACTS."""
        kind = _kind(self.model)
        assert kind is not None
        return kind

    @property
    def model_name(self) -> str:
        """The name of the file that a runtime opens."""
        return ARTIFACTS[self.artifact_kind][0]

    @property
    def artifact(self) -> str:
        """The digest of the model: that of its file, and of both digests where it has two."""
        if len(self.model) == 1:
            return self.model[0].sha256
        return digest({blob.name: blob.sha256 for blob in self.model})


def _kind(model: Tuple[BlobRef, ...]) -> Optional[str]:
    names = sorted(blob.name for blob in model)
    return next((kind for kind, wanted in ARTIFACTS.items() if names == sorted(wanted)), None)


_MANIFESTS: Mapping[str, Tuple[bool, Tuple[str, ...]]] = {
    "measure": (True, ()),
    "accuracy": (True, SUBSET_NAMES),
    "peaks": (False, ()),
}
"""Kind of job -> whether it has a model, and its other files."""


def _needed(kind: str) -> str:
    """Say what the manifest of a kind of jobs holds."""
    if kind == "peaks":
        return "no files"
    model = " or ".join(" and ".join(names) for names in ARTIFACTS.values())
    return f"{model}, with {' and '.join(SUBSET_NAMES)}" if kind == "accuracy" else model


_SPEC = {
    "kind": json_reader.text,
    "manifest": json_reader.sequence(BlobRef.from_json, 8),
    "runtime": json_reader.text,
    "options": json_reader.mapping(),
    "protocol": MeasureProtocol.from_json,
    "repeat": json_reader.integer(0, 10**6),
}


def job_id(spec: JobSpec, device_id: str) -> str:
    """Return the id (64 hex digits) under which `spec` runs on a device, for every client alike."""
    asked = {
        "schema": JOB_ID_SCHEMA,
        "kind": spec.kind,
        "artifacts": {blob.name: blob.sha256 for blob in spec.manifest},
        "runtime": spec.runtime,
        "options": dict(spec.options),
        "protocol": spec.protocol.to_json(),
        "device": device_id,
        "repeat": spec.repeat,
    }
    return digest(asked)
