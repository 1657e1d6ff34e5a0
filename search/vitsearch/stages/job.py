"""What goes to a worker: the base of all jobs, the values that several of them have, and the protocol of what runs
them, Ray workers or this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Networks, OnnxNetwork
from vitsearch.core.onnx_exporters import TORCHSCRIPT
from vitsearch.core.plan import Deployment, Distillation, Options
from vitsearch.core.preprocessing import ModelView, Preprocessing, PreprocessingKeys
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.core.stage import Stage
from vitsearch.stages.calibration import NO_CALIBRATIONS, Calibration, Calibrations
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import ArtifactRow, TrainingRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.tasks import TaskSource


@dataclass(frozen=True)
class PseudoLabels:
    """The network whose own fp32 outputs label images that have no labels, and how it reads them."""

    network: OnnxNetwork
    preprocessing: PreprocessingKeys


@dataclass(frozen=True)
class ReferenceModel:
    """The model whose outputs are what all others are to give, for a task that has a reference."""

    backbone: str
    weights: str


@dataclass(frozen=True)
class Workspace:
    """What every stage of a study shares. `scratch` holds files that are measured once and deleted; `networks` are
    those that the user brings; `labels` is what labels images without labels; `task` is what the
    models are for, `reference` the model that it holds all others to."""

    data: dict[str, Any]
    store: Store
    scratch: FileStore
    cache: Path
    networks: Networks = ()
    labels: PseudoLabels | None = None
    task: TaskSource = TaskSource()
    reference: ReferenceModel | None = None


STORED = "stored:"
"""In front of the digest of weights that are in the store of the study."""


@dataclass(frozen=True)
class Source:
    """A model to start from: a backbone at a resolution with weights ('builtin', 'hub', 'none', 'file:PATH', or
    'stored:SHA256' for those of a base that the study has made, and `trained_at` a size), and how it reads images.
    `window_size` None: the family's own at this resolution."""

    backbone: str
    weights: str
    resolution: ImageSize
    preprocessing: Preprocessing
    window_size: int | None = None
    trained_at: ImageSize | None = None

    @property
    def view(self) -> ModelView:
        return ModelView(self.resolution, self.preprocessing)


@dataclass(frozen=True)
class CompressionSpec:
    """How to make the compressed model: the unpruned one, what stays of it, the statistics for the parallel refit, and
    the images that each closed-form step looks at."""

    source: Source
    resolved: ResolvedPlan
    statistics_sha256: str
    calibrations: Calibrations = NO_CALIBRATIONS


Images = Literal["train", "learned", "holdout", "validation", "shipped"]
"""Images of the training split: those that a recipe trains on, all to learn from, or those that judge and train
nothing; the validation images; or those that judge what is shipped: test images, where there are any."""
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Job(Generic[R_co]):
    """The work of one stage."""

    stage: ClassVar[Stage]
    workspace: Workspace

    @property
    def backbone(self) -> str:
        """The backbone that it works on; empty where it works on the data alone."""
        return ""

    def work(self) -> R_co:
        """Do it, on a worker: files in, files and numbers out.

        Raises:
            StageError: It cannot be done.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class SourceJob(Job[R_co]):
    """Works on an unpruned model."""

    source: Source

    @property
    def backbone(self) -> str:
        return self.source.backbone


@dataclass(frozen=True)
class CompressedJob(Job[R_co]):
    """Works on a compressed model."""

    spec: CompressionSpec

    @property
    def backbone(self) -> str:
        return self.spec.source.backbone


@dataclass(frozen=True)
class FileJob(CompressedJob[R_co]):
    """Writes the file of a compressed model. `runtime_version` is that of the runtime on the device; `artifact_key`
    stands in the metadata of the file."""

    deployment: Deployment
    opset: int
    calibration: Calibration
    runtime_version: str | None = field(default=None, kw_only=True)
    artifact_key: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Stored:
    """A file in the store, read by other stages."""

    sha256: str
    size_bytes: int

    def row(self, key: str, stage: Stage, location: str) -> ArtifactRow:
        return ArtifactRow(key, stage, self.sha256, self.size_bytes, location, {})


@dataclass(frozen=True)
class DistillationTargets:
    """What a fine-tune learns from beside the labels. Files of a teacher's outputs and features, one row
    for each image of the training pool, or a `live_teacher`, where the recipe augments images."""

    method: Distillation
    outputs_sha256: str | None = None
    features_sha256: str | None = None
    live_teacher: Source | None = None


@dataclass(frozen=True)
class ExportedGraph:
    """An exported file in a store. `parity` is the largest difference to torch over the largest logit; `options`
    are those of the runtime that the file needs; `structure` names what its cost depends on
    (`vitsearch.export.structure`). `judged_sha256` is the file whose accuracy stands for that of a runtime that
    does not run on this machine; None where the runtime itself judges. `exporter` is the one of torch's that wrote
    its ONNX file (`vitsearch.core.onnx_exporters`), `float_weights` the layers that an int8 file has in floats, and
    their bytes."""

    sha256: str
    size_bytes: int
    macs_m: float
    params_m: float
    parity: float
    options: Options = ()
    structure: str | None = None
    judged_sha256: str | None = None
    exporter: str = TORCHSCRIPT.name
    float_weights: Mapping[str, int] = field(default_factory=dict)

    def detail(self) -> dict[str, Any]:
        """What the ledger keeps with the file."""
        counted = {"macs_m": self.macs_m, "params_m": self.params_m, "parity": self.parity}
        more = {"structure": self.structure, "judged_sha256": self.judged_sha256, "exporter": self.exporter}
        mappings = {"options": dict(self.options), "float_weights": dict(self.float_weights)}
        return counted | mappings | more


@dataclass(frozen=True)
class Reference:
    """The unpruned base that a compressed model is compared with: the file of its outputs on the holdout, and its
    qualities on the validation split. `truth_sha256` are the outputs of the reference of the study on the holdout."""

    outputs_sha256: str
    qualities: Mapping[str, float]
    truth_sha256: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `n` images of the holdout say of a model: its divergence from the base, and its qualities, without what it
    still remembers of a base that had the holdout in its own training. `errors` are the standard deviations of the
    qualities, from their intervals for this number of images."""

    qualities: Mapping[str, float]
    divergence: float
    n: int
    errors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_row(cls, row: TrainingRow) -> Evaluation:
        return cls(row.qualities, row.divergence or 0.0, row.n, row.errors)

    def row(self, key: str, rung: int, checkpoint_sha256: str | None = None) -> TrainingRow:
        """What the ledger keeps of a rung that ended so."""
        qualities, errors = dict(self.qualities), dict(self.errors)
        return TrainingRow(key, rung, qualities, self.divergence, self.n, checkpoint_sha256, errors)


class Runner(Protocol):
    """Runs jobs on workers.

    Guarantees: a stage's own failure arrives as `StageError`, and as `WorkerCrashed` if it ended its workers; a worker
    that something else killed is not a failure."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]: ...

    def close(self) -> None: ...
