"""What goes to a worker and what comes back: one frozen job and one frozen result for each stage.

Jobs carry digests and plain values, never modules or database addresses. ``make`` is the name of the stage in
messages and progress. ``vitsearch.workers.tasks.TASKS`` maps each class to the function that does the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from vitsearch.core.plan import Deployment, Distillation, Recipe
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.storage.files import FileStore


@dataclass(frozen=True)
class Workspace:
    """What every stage of a study shares. ``scratch`` holds files that are measured once and dropped."""

    data: dict[str, Any]
    store: FileStore
    scratch: FileStore
    cache: Path


@dataclass(frozen=True)
class Source:
    """A model to start from: a backbone at a resolution with weights ('builtin', 'hub', 'none', 'file:PATH').
    ``window_size`` None: the windows that it has there by itself."""

    backbone: str
    weights: str
    resolution: int
    window_size: int | None = None


@dataclass(frozen=True)
class Calibration:
    """Which training images something is measured on: ``images`` of them, drawn by ``seed``."""

    images: int
    seed: int


R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Job(Generic[R_co]):
    make: ClassVar[str]
    workspace: Workspace


@dataclass(frozen=True)
class DataReady:
    """``description`` is what the study stores and compares on resume (fingerprint, class names, sizes)."""

    description: dict[str, Any]


@dataclass(frozen=True)
class DataJob(Job[DataReady]):
    make = "describe_data"


@dataclass(frozen=True)
class Base:
    """An unpruned model on the user's classes. ``accuracy`` on the validation split (torch)."""

    weights_sha256: str
    accuracy: float
    n: int


@dataclass(frozen=True)
class BaseJob(Job[Base]):
    """Load the starting weights; train them when the classifier is new for these classes."""

    make = "prepare_base"
    source: Source
    recipe: Recipe


@dataclass(frozen=True)
class BlockStructureFound:
    block_structure: dict[str, Any]
    scores: dict[str, Any]
    statistics_sha256: str


@dataclass(frozen=True)
class BlockStructureJob(Job[BlockStructureFound]):
    """What may be cut, importance of each unit, and the statistics for the closed-form refit."""

    make = "find_block_structure"
    source: Source
    calibration: Calibration


@dataclass(frozen=True)
class Stored:
    """A file in the store, read by other stages."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class FileJob(Job[Stored]):
    """A stage whose result is one file; ``kind`` names it in the ledger."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class SensitivityJob(FileJob):
    """What the rounding of each layer of an unpruned model does to its answers on the calibration images: a
    JSON file of KL in nats that rounding it alone gives, by the layer's name."""

    make = "study_sensitivity"
    kind = "sensitivity"
    source: Source
    calibration: Calibration


@dataclass(frozen=True)
class LogitsJob(FileJob):
    """Logits of an unpruned model on the images a fine-tune will see (``train``) or on validation images: a
    .npy file, float32 (images, classes)."""

    make = "cache_logits"
    kind = "logits"
    source: Source
    split: str
    recipe: Recipe
    images: int


@dataclass(frozen=True)
class SubsetJob(FileJob):
    """The first validation images as a model takes them at a resolution, or (None) their labels, for a device
    to judge by: a .npy file, float32 (images, channels, height, width) or int64 (images)."""

    make = "make_subset"
    kind = "subset"
    resolution: int | None
    images: int


@dataclass(frozen=True)
class CompressionSpec:
    """How to make the compressed model: the unpruned one, what stays, and the statistics for the parallel
    refit. ``batch_norms`` are the images that settle them (``None``: they keep what they have), ``refit``
    those of the sequential refit (``None``: nothing is cut), ``token_predictors`` those on which networks
    that choose tokens get their start (``None``: there are none), ``sparsity`` those that decide which
    weights become zero, the first of them, and settle the batch norms behind (``None``: none)."""

    source: Source
    resolved: ResolvedPlan
    statistics_sha256: str
    batch_norms: Calibration | None = None
    refit: Calibration | None = None
    token_predictors: Calibration | None = None
    sparsity: Calibration | None = None


@dataclass(frozen=True)
class Graph:
    """An exported file in the scratch store, made from the starting weights."""

    sha256: str
    size_bytes: int
    macs_m: float
    params_m: float
    parity: float


@dataclass(frozen=True)
class ScreenJob(Job[Graph]):
    make = "build_graph"
    spec: CompressionSpec
    deployment: Deployment
    opset: int
    calibration: Calibration


@dataclass(frozen=True)
class ProxyFound:
    accuracy: float
    kl: float
    n: int


@dataclass(frozen=True)
class ProxyJob(Job[ProxyFound]):
    """Rung 0: refit in closed form, then accuracy and KL to the base on ``images`` validation images."""

    make = "score_proxy"
    spec: CompressionSpec
    base_logits_sha256: str
    images: int


@dataclass(frozen=True)
class Trained:
    accuracy: float
    kl: float
    n: int
    checkpoint_sha256: str
    steps: int
    kept_start: bool


@dataclass(frozen=True)
class FeaturesJob(LogitsJob):
    """What the classifier of an unpruned model reads, on the same images: a .npy file (images, width)."""

    make = "cache_features"
    kind = "features"


@dataclass(frozen=True)
class DistillationTargets:
    """What a fine-tune learns from beside the labels. Files of a teacher's logits and features, one row
    for each image of the training pool, or a ``live_teacher``, where the recipe augments images."""

    method: Distillation
    logits_sha256: str | None = None
    features_sha256: str | None = None
    live_teacher: Source | None = None


@dataclass(frozen=True)
class TrainJob(Job[Trained]):
    """From rung ``start`` to rung ``end`` (epochs). The start is kept when the tune ends worse."""

    make = "train_rung"
    spec: CompressionSpec
    recipe: Recipe
    start: int
    end: float
    checkpoint_sha256: str | None
    targets: DistillationTargets
    base_logits_sha256: str
    images: int


@dataclass(frozen=True)
class QatJob(TrainJob):
    """From the weights of rung ``start``, with the rounding of static int8 in place; ranges start as seen on
    the ``calibration`` images. The start is what post-training quantization gives."""

    make = "train_quantized"
    calibration: Calibration


@dataclass(frozen=True)
class Exported:
    """The file that would be shipped, in the store, and its accuracy on its own runtime."""

    sha256: str
    size_bytes: int
    macs_m: float
    params_m: float
    parity: float
    correct: int
    n: int


@dataclass(frozen=True)
class ExportJob(Job[Exported]):
    """``checkpoint_sha256`` None: the closed-form weights (the unpruned base when nothing is cut)."""

    make = "export_artifact"
    spec: CompressionSpec
    deployment: Deployment
    opset: int
    calibration: Calibration
    checkpoint_sha256: str | None
