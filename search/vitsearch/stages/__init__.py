"""The stages of a trial that a worker makes, a file each: its job, its result, its work, its key and its row.

A job goes to a worker and its result comes back: digests and plain values, never modules or database addresses. The
work of a stage imports torch and timm, so it imports what it needs when it is called (`vitsearch.stages.parts`).
`vitsearch.pipeline` has their order, and makes each once.
"""

from vitsearch.stages.base import Base, BaseJob
from vitsearch.stages.block_structure import BlockStructureFound, BlockStructureJob
from vitsearch.stages.data import DataJob, DataReady
from vitsearch.stages.export import Exported, ExportJob
from vitsearch.stages.job import (
    STORED,
    CompressionSpec,
    DistillationTargets,
    Evaluation,
    ExportedGraph,
    Images,
    Job,
    PseudoLabels,
    R_co,
    Reference,
    ReferenceModel,
    Runner,
    Source,
    Stored,
    Workspace,
)
from vitsearch.stages.outputs import FeaturesJob, LogitsJob
from vitsearch.stages.proxy import ProxyJob
from vitsearch.stages.screen import ScreenJob
from vitsearch.stages.sensitivity import SensitivityJob
from vitsearch.stages.ship import ShipJob
from vitsearch.stages.subset import SubsetJob
from vitsearch.stages.train import Kept, Trained, TrainJob
from vitsearch.stages.train_int8 import QatJob

__all__ = [
    "STORED",
    "Base",
    "BaseJob",
    "BlockStructureFound",
    "BlockStructureJob",
    "CompressionSpec",
    "DataJob",
    "DataReady",
    "DistillationTargets",
    "Evaluation",
    "ExportJob",
    "Exported",
    "ExportedGraph",
    "FeaturesJob",
    "Images",
    "Job",
    "Kept",
    "LogitsJob",
    "ProxyJob",
    "PseudoLabels",
    "QatJob",
    "R_co",
    "Reference",
    "ReferenceModel",
    "Runner",
    "ScreenJob",
    "SensitivityJob",
    "ShipJob",
    "Source",
    "Stored",
    "SubsetJob",
    "TrainJob",
    "Trained",
    "Workspace",
]
