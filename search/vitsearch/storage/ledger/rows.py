"""The values of the ledger. `files` of a row are those that it needs in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypedDict, TypeVar

from vitsearch.core.decoding import decoded
from vitsearch.core.figures import Metrics
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.stage import Stage
from vitsearch_agent.wire.protocol import Measurement


@dataclass(frozen=True)
class BlockStructureRow:
    key: str
    weights_sha256: str
    resolution: str
    calibration: str
    block_structure: dict[str, Any]
    scores: dict[str, Any]
    statistics_sha256: str

    @property
    def files(self) -> tuple[str, ...]:
        return (self.statistics_sha256,)


@dataclass(frozen=True)
class TrainingRow:
    """A base, or a rung of a compressed model, with what torch says of it.

    Attributes:
        weights_key: Of the training; `rung` is the one that has ended, in epochs.
        qualities: The metrics of the task on `n` images: of a rung on the holdout, of a base on the validation split.
        divergence: From the unpruned model, in the unit of the task; None for a base.
        errors: The standard deviations of the qualities, from the number of images.
    """

    weights_key: str
    rung: int
    qualities: dict[str, float]
    divergence: float | None
    n: int
    checkpoint_sha256: str | None
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        return () if self.checkpoint_sha256 is None else (self.checkpoint_sha256,)


class Detail(TypedDict, total=False):
    """What is known of a file, as far as it has this."""

    macs_m: float
    params_m: float
    parity: float | None
    options: dict[str, Any]
    structure: str | None
    judged_sha256: str | None
    outputs_sha256: str | None
    masks_sha256: str | None
    reference_sha256: str | None
    shares: dict[str, float]
    float_weights: dict[str, int]


FILES_IN_DETAIL = ("judged_sha256", "outputs_sha256", "masks_sha256", "reference_sha256")
"""What names a further file of an artifact: what stands for a model where it is judged, and the arrays that
shipping made beside the images."""


def artifact_files(sha256: str, detail: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of all files that an artifact names."""
    others = (detail.get(name) for name in FILES_IN_DETAIL)
    return (sha256, *(digest for digest in others if digest is not None))


@dataclass(frozen=True)
class ArtifactRow:
    """`detail` has the keys of `Detail`, and others."""

    artifact_key: str
    kind: str
    sha256: str
    size_bytes: int
    location: str
    detail: dict[str, Any]

    @property
    def files(self) -> tuple[str, ...]:
        """None of a screened graph, which is deleted after its measurement."""
        return () if self.kind == Stage.SCREEN else artifact_files(self.sha256, self.detail)

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the model, with which it was judged. A screened graph has none."""
        where = f"vs_artifact of artifact {self.artifact_key[:12]}: detail"
        return decoded(lambda detail: Preprocessing.from_json(detail["preprocessing"]), self.detail, where)


@dataclass(frozen=True)
class EvaluationRow:
    """What a task made of the outputs of a file, in runs of `batch` images.

    Attributes:
        split: The digest of the images and of what they are judged by.
        evaluated_on: `worker`, or the id of a device.
        figures: The JSON form of `vitsearch.core.figures.Metrics`.
        tally: What else the task keeps of them, such as confusion counts.
    """

    artifact_key: str
    split: str
    n: int
    evaluated_on: str
    batch: int
    figures: dict[str, Any]
    tally: Any = None

    files: ClassVar[tuple[str, ...]] = ()

    @property
    def where(self) -> str:
        """Names the row in a message."""
        return f"vs_evaluation of artifact {self.artifact_key[:12]}"

    @cached_property
    def metrics(self) -> Metrics:
        """Decoded. Raises `Damaged`."""
        return decoded(Metrics.from_json, self.figures, f"{self.where}: figures")


@dataclass(frozen=True)
class ReferenceKey:
    """What the times of the reference models depend on."""

    device_id: str
    environment_id: str
    reference: str
    runtime: str
    threads: int


@dataclass(frozen=True)
class StoredTimes:
    """`times` is the JSON form of `vitsearch_agent.wire.paired.ReferenceTimes`; `started_at` is when the measurement
    began that they came with, UTC as the agent writes it."""

    times: dict[str, Any]
    started_at: str


@dataclass(frozen=True)
class MeasurementRow:
    """`result` is the JSON form of `vitsearch_agent.wire.protocol.Measurement`; `structure` names what
    the cost of the file depends on, if that is known."""

    graph_key: str
    artifact_sha256: str
    device_id: str
    environment_id: str
    protocol: str
    repeat: int
    result: dict[str, Any]
    structure: str | None = None

    files: ClassVar[tuple[str, ...]] = ()

    @property
    def measurement(self) -> Measurement:
        """Decoded. Raises `Damaged`."""
        return decoded(Measurement.from_json, self.result, f"vs_measurement of graph {self.graph_key[:12]}: result")


@dataclass(frozen=True)
class Claim:
    """The right to make `key`; `token` names the driver that has it."""

    key: str
    token: str


Row: TypeAlias = BlockStructureRow | TrainingRow | ArtifactRow | EvaluationRow | MeasurementRow
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class RunState:
    """What a run does now, as it stores it for `vitsearch status` of any machine. `doing` are the stages that take
    long, each with how far it is, `waits` what the run waits for, if it does; all in words."""

    doing: Mapping[str, str] = field(default_factory=dict)
    waits: str | None = None
