"""What the files of a finished study answer on its validation images, computed again from the stored files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.metrics import Metric
from vitsearch.core.preprocessing import ModelView
from vitsearch.data import describe_difference
from vitsearch.errors import DataError, StoreError, StudyError
from vitsearch.search.stage_config import data_spec
from vitsearch.search.study_folders import StudyFolders
from vitsearch.stages.parts.images import load_data, validation_truth
from vitsearch.storage.ledger import Ledger, files_folder
from vitsearch.storage.stores import store_of
from vitsearch.study.results.comparison import McNemar, Paired, PairedMeans
from vitsearch.study.results.detail import file_of, record_of
from vitsearch.study.study import Study
from vitsearch.tasks import Truth
from vitsearch.workers.predictions import RunnableFile, outputs_of

Values = NDArray[np.float64]


class StoredPredictions:
    """The validation images of a study, and the answers of its files."""

    def __init__(self, study: Study, ledger: Ledger, storage: str) -> None:
        self._study, self._ledger = study, ledger
        home = StudyFolders(files_folder(storage).resolve(), study.name)
        self._workspace = home.workspace(
            study.space(), data_spec(study.space(), study.attributes.get("data")), store_of(ledger)
        )
        self._images = load_data(self._workspace)
        stored = study.attributes.get("data") or {}
        if differing := describe_difference(stored, self._images.to_json()):
            raise DataError(f"study {study.name!r} was made with other data. What differs: {'; '.join(differing)}")

    def paired(self, first: int | None, second: int | None) -> Paired:
        """Two trials on the same images, answer by answer; None for the baseline.

        Raises `StudyError` where no image gives a number for both, or one of them has no file.
        """
        task, truth = self._workspace.task.find(), self._truth()
        values, others = (task.pair(outputs_of(self._file(number), self._images), truth) for number in (first, second))
        return paired_values(task.metrics[0], values, others)

    def _truth(self) -> Truth:
        """What outputs are judged by; of a task with a reference by those of the baseline's file."""
        truth, space = validation_truth(self._workspace, None), self._study.space()
        if space.reference is None:
            return truth
        if space.reference != space.baseline:
            raise StudyError(
                f"study {self._study.name!r} is compared with {space.reference.backbone}, whose file it does not have; "
                "--paired works only if the reference is the baseline"
            )
        return replace(truth, reference=outputs_of(self._file(None), self._images))

    def _file(self, number: int | None) -> RunnableFile:
        record = record_of(self._study, number)
        file = file_of(self._ledger, self._workspace.store, record)
        if file is None or record.keys is None:
            raise StudyError(f"{_name(number)} has no exported model: its outcome is {record.outcome}")
        store = self._workspace.store
        if not store.holds(file.sha256):
            raise StoreError(f"{_name(number)}: its file {file.sha256[:12]} is not in {store.address}")
        evaluated = self._ledger.evaluation(file.artifact_key, self._study.judged_by)
        batch = record.plan.deployment.batch or (evaluated.batch if evaluated else 1)
        view = ModelView(record.plan.resolution, file.preprocessing)
        return RunnableFile(store.model(file.sha256), record.plan, view, file.options, batch)


def paired_values(metric: Metric, values: Values, others: Values) -> Paired:
    """Pair what two files give of the same images.

    Args:
        metric: What the values are.
        values: (images,), of the first file; not a number where an image gives none.
        others: (images,), of the second.

    Returns:
        Of the images that give a number for both.

    Raises:
        StudyError: No image does.
    """
    judged = ~(np.isnan(values) | np.isnan(others))
    if not judged.any():
        raise StudyError(f"no single image has {metric.name}, so --paired has nothing to compare")
    values, others = values[judged], others[judged]
    if metric.is_count:
        return McNemar(len(values), int((values > others).sum()), int((others > values).sum()))
    return PairedMeans.of(values.tolist(), others.tolist(), metric.direction == "maximize")


def _name(number: int | None) -> str:
    return "the baseline" if number is None else f"trial {number}"
