"""The stages that a run is made of. The value of each is its name in keys, claims and records; users read its words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vitsearch.errors import STAGE_WORDS


class Stage(StrEnum):
    DATA = "data"
    BASE = "base"
    BLOCK_STRUCTURE = "block_structure"
    SENSITIVITY = "sensitivity"
    LOGITS = "logits"
    FEATURES = "features"
    SUBSET = "subset"
    SCREEN = "screen"
    PROXY = "proxy"
    TRAIN = "train"
    TRAIN_INT8 = "train_int8"
    EXPORT = "export"
    MEASURE = "measure"
    DEVICE_ACCURACY = "device_accuracy"
    SHIP = "ship"

    @property
    def words(self) -> str:
        """What the stage does, as users read it: `training`."""
        return STAGE_WORDS[self]

    @property
    def needs_device(self) -> bool:
        """Whether the device makes it; workers of this run make all others."""
        return self in (Stage.MEASURE, Stage.DEVICE_ACCURACY)


@dataclass(frozen=True)
class StageKey:
    """Names one result of a stage. `str` of it is the key of a claim in the ledger."""

    stage: Stage
    key: str

    def __str__(self) -> str:
        return f"{self.stage}:{self.key}"
