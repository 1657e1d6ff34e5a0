"""The values of the ledger. `file` of a row is its file in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypedDict, TypeVar

from vitsearch.core.confusion import Confusion
from vitsearch.core.decoding import damaged, decoded
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.stage import Stage
from vitsearch_agent.wire.protocol import Measurement


@dataclass(frozen=True)
class BlockStructureRow:
    key: str
    weights_sha256: str
    resolution: int
    calibration: str
    block_structure: dict[str, Any]
    scores: dict[str, Any]
    statistics_sha256: str

    @property
    def file(self) -> str:
        return self.statistics_sha256


@dataclass(frozen=True)
class TrainingRow:
    """A base, or a rung of a compressed model, with what torch says of it.

    Attributes:
        weights_key: Of the training; `rung` is the one that has ended, in epochs.
        accuracy: On `n` images: of a rung on the holdout, of a base on the validation split.
        kl: From the unpruned model, in nats; None for a base.
        confusion: The answers of a base, counted; None for rungs, and for a base whose accuracy was known.
    """

    weights_key: str
    rung: int
    accuracy: float
    kl: float | None
    n: int
    checkpoint_sha256: str | None
    confusion: list[list[int]] | None = None

    @property
    def file(self) -> str | None:
        return self.checkpoint_sha256


class Detail(TypedDict, total=False):
    """What is known of a file, as far as it has this."""

    macs_m: float
    params_m: float
    parity: float | None
    options: dict[str, Any]
    structure: str | None
    judged_sha256: str | None
    only_class: str | None
    shares: dict[str, float]


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
    def file(self) -> str | None:
        """None for a screened graph, which is deleted after its measurement."""
        return None if self.kind == Stage.SCREEN else self.sha256

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the model, with which it was judged. A screened graph has none."""
        where = f"vs_artifact of artifact {self.artifact_key[:12]}: detail"
        return decoded(lambda detail: Preprocessing.from_json(detail["preprocessing"]), self.detail, where)


@dataclass(frozen=True)
class AccuracyRow:
    """`batch`: images in one run. `confusion` counts the answers: the JSON form of
    `vitsearch.core.confusion.Confusion`."""

    artifact_key: str
    split: str
    n: int
    evaluated_on: str
    correct: int
    batch: int
    confusion: list[list[int]]

    file: ClassVar[None] = None

    @property
    def counts(self) -> Confusion:
        """Decoded. Raises `Damaged`."""
        where = f"vs_accuracy of artifact {self.artifact_key[:12]}: confusion"
        confusion = decoded(Confusion.from_json, self.confusion, where)
        if (confusion.correct, confusion.n) != (self.correct, self.n):
            raise damaged(where, f"counts {confusion.correct} of {confusion.n}, and the row {self.correct} of {self.n}")
        return confusion


@dataclass(frozen=True)
class ReferenceKey:
    """What the times of the reference models depend on."""

    device_id: str
    environment_id: str
    reference: str
    runtime: str
    threads: int


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

    file: ClassVar[None] = None

    @property
    def measurement(self) -> Measurement:
        """Decoded. Raises `Damaged`."""
        return decoded(Measurement.from_json, self.result, f"vs_measurement of graph {self.graph_key[:12]}: result")


@dataclass(frozen=True)
class Claim:
    """The right to make `key`; `token` names the driver that has it."""

    key: str
    token: str


Row: TypeAlias = BlockStructureRow | TrainingRow | ArtifactRow | AccuracyRow | MeasurementRow
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class RunState:
    """What a run does now, as it stores it for `vitsearch status` of any machine. `doing` are the stages that take
    long, each with how far it is, `waits` what the run waits for, if it does; all in words."""

    doing: Mapping[str, str] = field(default_factory=dict)
    waits: str | None = None
