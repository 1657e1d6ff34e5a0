"""The weights that a space file names, and how models with them read images."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core.preprocessing import HALF, Preprocessing
from vitsearch.errors import DataError, PlanError
from vitsearch.search.plan_space import catalogue_of
from vitsearch.space import SearchSpace
from vitsearch.space.nodes import Path
from vitsearch.space.section_base import StartingWeights


@dataclass(frozen=True)
class Start:
    """Weights that a space file names, and where it does."""

    path: Path
    backbone: str
    section: StartingWeights

    catalogue: Catalogue

    def preprocessing(self, channels: int) -> Preprocessing | None:
        """How they read images of `channels`; None for random weights, which read them as the data says.

        Raises `PlanError` for another number of channels than the file says, or than the network takes.
        """
        if (reason := self.catalogue.refused_channels(self.backbone, channels)) is not None:
            raise PlanError(reason)
        default = self.catalogue.preprocessing(self.backbone, self.section.weights)
        keys = self.section.preprocessing
        if default is None and (keys.mean is None or keys.std is None):
            keys.over(HALF, channels)
            return None
        return keys.over(default or HALF, channels)


def starts(space: SearchSpace) -> list[Start]:
    """All weights of a file: of backbones, of the baseline where they are its own, and of a teacher."""
    backbone_keys, baseline, teacher = space.space.backbone, space.baseline, space.task.teacher
    catalogue = catalogue_of(space)
    named = [
        Start(("space", "backbone", index), choice.name, choice, catalogue)
        for index, choice in enumerate(backbone_keys)
    ]
    listed = {(start.backbone, start.section.weights, start.section.preprocessing) for start in named}
    if (baseline.backbone, baseline.weights, baseline.preprocessing) not in listed:
        named.append(Start(("baseline",), baseline.backbone, baseline, catalogue))
    if not isinstance(teacher, str):
        named.append(Start(("task", "teacher"), teacher.backbone, teacher, catalogue))
    return named


def refuse_other_channels(space: SearchSpace, channels: int) -> None:
    """Raise `DataError` for weights whose mean or deviation is of another number of channels
    than the images have."""
    for start in starts(space):
        try:
            start.preprocessing(channels)
        except PlanError as error:
            raise DataError(f"{'.'.join(map(str, start.path))} ({start.backbone}): {error}") from error
