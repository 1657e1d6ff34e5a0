"""What goes to a worker and what comes back: one frozen job and one frozen result for each stage; and the
protocol of what runs jobs, Ray workers or this process.

Jobs carry digests and plain values, never modules or database addresses. `vitsearch.workers.tasks` does the
work; only a worker imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Networks, OnnxNetwork
from vitsearch.core.onnx_exporters import TORCHSCRIPT
from vitsearch.core.plan import Deployment, Distillation, Options, Recipe
from vitsearch.core.preprocessing import ModelView, Preprocessing, PreprocessingKeys
from vitsearch.core.record import Shipped
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.core.stage import Stage
from vitsearch.pipeline.calibration import NO_CALIBRATIONS, Calibration, Calibrations
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.stage_cost import StageCost
from vitsearch.tasks import Judged, TaskSource


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


Images = Literal["train", "learned", "holdout", "validation", "shipped"]
"""Images of the training split: those that a recipe trains on, all to learn from, or those that judge and train
nothing; the validation images; or those that judge what is shipped: test images, where there are any."""
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Job(Generic[R_co]):
    stage: ClassVar[Stage]
    workspace: Workspace


@dataclass(frozen=True)
class DataReady:
    """`description` is what the study stores and compares on resume (fingerprint, class names, sizes). `notes` are
    to be said before accuracies of this data are believed. `samples` are a few validation images beside what is true of
    them, as PNG files in base64 (`Task.samples`). `has_test`: there are images that the search never uses."""

    description: dict[str, Any]
    notes: tuple[str, ...] = ()
    samples: tuple[tuple[str, str], ...] = ()
    has_test: bool = False


@dataclass(frozen=True)
class DataJob(Job[DataReady]):
    stage = Stage.DATA


@dataclass(frozen=True)
class Base:
    """An unpruned model with the head of the task. `qualities` are its metrics on the `n` images of the validation
    split (torch), `note` what there is to say of the file that it started from."""

    weights_sha256: str
    qualities: Mapping[str, float]
    n: int
    note: str | None = None


@dataclass(frozen=True)
class DistillationTargets:
    """What a fine-tune learns from beside the labels. Files of a teacher's outputs and features, one row
    for each image of the training pool, or a `live_teacher`, where the recipe augments images."""

    method: Distillation
    outputs_sha256: str | None = None
    features_sha256: str | None = None
    live_teacher: Source | None = None


@dataclass(frozen=True)
class BaseJob(Job[Base]):
    """Load the starting weights; train them when their head is new. `targets` and `truth_sha256` are the outputs of the
    reference of the study for the images to learn from and for the validation images, None where the task has none and
    for the reference itself. `checkpoint` is the file that keeps each epoch of the training until it is finished."""

    stage = Stage.BASE
    source: Source
    recipe: Recipe
    targets: DistillationTargets | None = None
    truth_sha256: str | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class BlockStructureFound:
    block_structure: dict[str, Any]
    scores: dict[str, Any]
    statistics_sha256: str


@dataclass(frozen=True)
class BlockStructureJob(Job[BlockStructureFound]):
    """What may be cut, importance of each unit, and the statistics for the closed-form refit.

    Without images (`calibration` None) all units are equally important, and there are no statistics: for what is
    untrained.
    """

    stage = Stage.BLOCK_STRUCTURE
    source: Source
    calibration: Calibration | None


@dataclass(frozen=True)
class Stored:
    """A file in the store, read by other stages."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class FileJob(Job[Stored]):
    """A stage whose result is one file."""


@dataclass(frozen=True)
class SensitivityJob(FileJob):
    """What the rounding of each layer of an unpruned model does to its answers on the calibration images: a
    JSON file of KL in nats that rounding it alone gives, by the layer's name."""

    stage = Stage.SENSITIVITY
    source: Source
    calibration: Calibration


@dataclass(frozen=True)
class LogitsJob(FileJob):
    """Outputs of an unpruned model for certain images: a .npy file, float32 (images, ...)."""

    stage = Stage.LOGITS
    source: Source
    images: Images
    recipe: Recipe


@dataclass(frozen=True)
class SubsetJob(FileJob):
    """Some validation images (`spread_rows`) as a model takes them, or (None) their labels, for a device to judge by: a
    .npy file, float32 (images, channels, height, width) or int64 (images)."""

    stage = Stage.SUBSET
    view: ModelView | None
    images: int


@dataclass(frozen=True)
class CompressionSpec:
    """How to make the compressed model: the unpruned one, what stays of it, the statistics for the parallel refit, and
    the images that each closed-form step looks at."""

    source: Source
    resolved: ResolvedPlan
    statistics_sha256: str
    calibrations: Calibrations = NO_CALIBRATIONS


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
class ScreenJob(Job[ExportedGraph]):
    """The file of a plan with its starting weights. `runtime_version` is that of the runtime on the device;
    `artifact_key` stands in the metadata of the file."""

    stage = Stage.SCREEN
    spec: CompressionSpec
    deployment: Deployment
    opset: int
    calibration: Calibration
    runtime_version: str | None = None
    artifact_key: str = ""


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
    qualities, from the intervals that so many images leave."""

    qualities: Mapping[str, float]
    divergence: float
    n: int
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProxyJob(Job[Evaluation]):
    """Rung 0: refit in closed form, then compare with the base."""

    stage = Stage.PROXY
    spec: CompressionSpec
    reference: Reference


Kept = Literal["start", "last", "average"]
"""The state that a rung ends with: the weights of its start, those of its last step, or the average of its steps."""


@dataclass(frozen=True)
class Trained:
    evaluation: Evaluation
    checkpoint_sha256: str
    steps: int
    kept: Kept


@dataclass(frozen=True)
class FeaturesJob(LogitsJob):
    """What the classifier of an unpruned model reads, on the same images: a .npy file (images, width)."""

    stage = Stage.FEATURES


@dataclass(frozen=True)
class TrainJob(Job[Trained]):
    """Fine-tune from rung `start`, whose evaluation is `before`, to rung `end` (epochs).

    Of the start, the last weights and their average the rung keeps what is best on the holdout by `keeps`: `nearest` to
    the base, or `best` in the first metric of the task, for what learns of a better model than the base and so leaves
    it."""

    stage = Stage.TRAIN
    spec: CompressionSpec
    recipe: Recipe
    start: int
    end: float
    checkpoint_sha256: str | None
    targets: DistillationTargets
    reference: Reference
    before: Evaluation
    keeps: Literal["nearest", "best"] = field(default="nearest", kw_only=True)


@dataclass(frozen=True)
class QatJob(TrainJob):
    """From the weights of rung `start`, with the rounding of static int8 in place; ranges start as seen on
    the `calibration` images. The start is what post-training quantization gives."""

    stage = Stage.TRAIN_INT8
    calibration: Calibration


@dataclass(frozen=True)
class Exported:
    """The file that would be shipped, in the store, and what the task makes of its outputs for the `n` validation
    images in its own runtime. `shares` are those of its MACs that the runtime computes in each precision
    (`vitsearch.export.precision_shares`). `cosine` is the mean cosine of its logits to the network's own in fp32, where
    these label the validation images."""

    graph: ExportedGraph
    judged: Judged
    n: int
    shares: dict[str, float] = field(default_factory=dict)
    cosine: float | None = None

    def detail(self) -> dict[str, Any]:
        """What the ledger keeps with the file."""
        return self.graph.detail() | {"shares": self.shares, "cosine": self.cosine}


@dataclass(frozen=True)
class ExportJob(Job[Exported]):
    """`checkpoint_sha256` None: the closed-form weights (the unpruned base when nothing is cut).

    The accuracy is that of runs of `batch` images, as the device measures the file: activations that are quantized
    at run time share one scale in a run.
    """

    stage = Stage.EXPORT
    spec: CompressionSpec
    deployment: Deployment
    opset: int
    calibration: Calibration
    checkpoint_sha256: str | None
    batch: int = 1
    runtime_version: str | None = None
    artifact_key: str = ""
    truth_sha256: str | None = None


@dataclass(frozen=True)
class ShipJob(Job[Shipped]):
    """Evaluate an exported file on the test images, which only this stage reads, and choose up to `images` for its
    bundle. `source` has the starting weights of its plan; `judged_sha256` is the file that stands for one that does
    not run here."""

    stage = Stage.SHIP
    source: Source
    deployment: Deployment
    model_sha256: str
    judged_sha256: str | None
    batch: int
    images: int
    truth_sha256: str | None = None


def backbone_of(job: Job[Any]) -> str:
    """The backbone that a job works on; empty where it works on the data alone."""
    match job:
        case BaseJob() | BlockStructureJob() | SensitivityJob() | LogitsJob() | ShipJob():
            return job.source.backbone
        case ScreenJob() | ProxyJob() | TrainJob() | ExportJob():
            return job.spec.source.backbone
    return ""


class Runner(Protocol):
    """Runs jobs on workers.

    Guarantees: a stage's own failure arrives as `StageError`, and as `WorkerCrashed` if it ended its workers; a worker
    that something else killed is not a failure."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]: ...

    def close(self) -> None: ...
