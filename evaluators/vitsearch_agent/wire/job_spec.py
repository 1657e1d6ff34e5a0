"""Requests to a device: the job, its files, its id and its owner."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.runtime_facts import FORMATS
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.reductions import REDUCTIONS

JOB_ID_SCHEMA = 2
"""Increased by hand when the meaning of a job id changes; everything is then measured again."""

ARTIFACTS: Mapping[str, Tuple[str, ...]] = {kind: form.files for kind, form in FORMATS.items()}
"""Kind of model -> its files; a runtime opens the first."""

ARTIFACT_NAMES = tuple(dict.fromkeys(name for names in ARTIFACTS.values() for name in names))

IMAGES_NAME = "images.npy"
"""The file of the images of an outputs job: (N, C, H, W), float32 or uint8, little endian, as inputs of the model."""

FILE_NAMES = ARTIFACT_NAMES + (IMAGES_NAME,)
"""The only file names that a job may use, so that no text from a client becomes a path."""

JOB_KINDS = ("measure", "outputs", "peaks")


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
    """The study and trial that a job is for. It decides the order of the queue and is not part of the job id."""

    study: str
    trial: Optional[int] = None

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "owner") -> "Owner":
        return cls(**json_reader.read_object(value, _OWNER, where))


_OWNER = {"study": json_reader.text, "trial": json_reader.optional(json_reader.integer())}


class JobSpec(NamedTuple):
    """One job. `options` are the runtime's options, which the runtime checks.

    The kind decides the manifest: a model (`measure`), a model and images (`outputs`), or nothing (`peaks`, for
    the device's own peaks). Of the protocol, an outputs job uses only `threads`, `batch`, `shapes` and `timeout_s`, a
    peaks job only `threads`, `min_s` and `timeout_s`.

    `repeat` (0, 1, 2, ...) distinguishes measurements that are otherwise equal. `reduction` says what an outputs job
    keeps (see `reductions`); the other kinds have none.
    """

    kind: str
    manifest: Tuple[BlobRef, ...]
    runtime: str
    options: Mapping[str, Any]
    protocol: MeasureProtocol
    repeat: int = 0
    reduction: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        """Return the JSON; `reduction` is a key of outputs jobs only."""
        every = {
            "kind": self.kind,
            "manifest": [blob.to_json() for blob in self.manifest],
            "runtime": self.runtime,
            "options": dict(self.options),
            "protocol": self.protocol.to_json(),
            "repeat": self.repeat,
        }
        return every if self.reduction is None else dict(every, reduction=self.reduction)

    @classmethod
    def from_json(cls, value: Any, where: str = "spec") -> "JobSpec":
        spec = cls(**json_reader.read_object(value, _SPEC, where, ("reduction",)))
        if spec.kind not in JOB_KINDS:
            raise InvalidRequest(f"{where}.kind: {spec.kind!r} is not one of {', '.join(JOB_KINDS)}")
        if (spec.reduction is not None) != (spec.kind == "outputs"):
            needed = "an outputs job needs" if spec.reduction is None else "only an outputs job has"
            raise InvalidRequest(f"{where}.reduction: {needed} one of {', '.join(REDUCTIONS)}")
        has_model, others = _MANIFESTS[spec.kind]
        is_right = _kind(spec.model) is not None if has_model else not spec.model
        rest = sorted(blob.name for blob in spec.manifest if blob.name not in ARTIFACT_NAMES)
        if not is_right or rest != sorted(others):
            names = " and ".join(blob.name for blob in spec.manifest) or "nothing"
            raise InvalidRequest(f"{where}.manifest: needs exactly {_needed(spec.kind)}; got {names}")
        return spec

    @property
    def model(self) -> Tuple[BlobRef, ...]:
        """The files of the model."""
        return tuple(blob for blob in self.manifest if blob.name in ARTIFACT_NAMES)

    @property
    def artifact_kind(self) -> str:
        """The kind of the model: a key of ARTIFACTS."""
        kind = _kind(self.model)
        assert kind is not None
        return kind

    @property
    def model_name(self) -> str:
        """The name of the file that a runtime opens."""
        return ARTIFACTS[self.artifact_kind][0]

    @property
    def artifact(self) -> str:
        """The digest of the model: the digest of its file, or of both digests if it has two files."""
        if len(self.model) == 1:
            return self.model[0].sha256
        return digest({blob.name: blob.sha256 for blob in self.model})


def _kind(model: Tuple[BlobRef, ...]) -> Optional[str]:
    names = sorted(blob.name for blob in model)
    return next((kind for kind, wanted in ARTIFACTS.items() if names == sorted(wanted)), None)


_MANIFESTS: Mapping[str, Tuple[bool, Tuple[str, ...]]] = {
    "measure": (True, ()),
    "outputs": (True, (IMAGES_NAME,)),
    "peaks": (False, ()),
}
"""Kind of job -> whether its manifest has a model, and its other files."""


def _needed(kind: str) -> str:
    """Describe the manifest that a kind of job needs."""
    if kind == "peaks":
        return "no files"
    model = " or ".join(" and ".join(names) for names in ARTIFACTS.values())
    return f"{model}, with {IMAGES_NAME}" if kind == "outputs" else model


_SPEC = {
    "kind": json_reader.text,
    "manifest": json_reader.sequence(BlobRef.from_json, 8),
    "runtime": json_reader.text,
    "options": json_reader.mapping(),
    "protocol": MeasureProtocol.from_json,
    "repeat": json_reader.integer(0, 10**6),
    "reduction": json_reader.one_of(*REDUCTIONS),
}


def job_id(spec: JobSpec, device_id: str) -> str:
    """Return the id (64 hex digits) of `spec` on a device, the same for every client."""
    identity = {
        "schema": JOB_ID_SCHEMA,
        "kind": spec.kind,
        "artifacts": {blob.name: blob.sha256 for blob in spec.manifest},
        "runtime": spec.runtime,
        "options": dict(spec.options),
        "protocol": spec.protocol.to_json(),
        "device": device_id,
        "repeat": spec.repeat,
    }
    if spec.reduction is not None:
        identity["reduction"] = spec.reduction
    return digest(identity)
