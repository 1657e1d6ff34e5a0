"""The batch of the files that ``batch: auto`` has found for each unpruned model of a study."""

from __future__ import annotations

from vitsearch.study.sampling import Unpruned
from vitsearch.study.study import Study

ATTRIBUTE = "batches"
UNTIL_FOUND = "1"


class KeptBatches:
    """What the study has stored, and what is found in this run."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._kept: dict[str, str] = dict(study.attributes.get(ATTRIBUTE, {}))

    def __call__(self, model: Unpruned) -> str:
        return self._kept.get(model.key, UNTIL_FOUND)

    def has(self, model: Unpruned) -> bool:
        return model.key in self._kept

    def keep(self, model: Unpruned, batch: str) -> None:
        """Store the choice for a model, unless another run of the study has stored one."""
        self._kept = {model.key: batch} | self._kept | dict(self._study.attributes.get(ATTRIBUTE, {}))
        self._study.remember(ATTRIBUTE, self._kept)
