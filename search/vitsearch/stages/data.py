"""The images of a study, described, once in a run."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from vitsearch.core.stage import Stage
from vitsearch.stages.job import Job


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

    def work(self) -> DataReady:
        from vitsearch.core.caveats.leaks import leak_text
        from vitsearch.data import DataSpec, review
        from vitsearch.data.builtin import is_builtin
        from vitsearch.data.leaks import find_leaks
        from vitsearch.stages.parts.images import load_data, own_data

        spec = DataSpec.from_json(dict(self.workspace.data))
        images, task = load_data(self.workspace), self.workspace.task.find()
        leaks = {} if is_builtin(spec.source) else find_leaks(own_data(self.workspace), self.workspace.cache)
        known = leak_text(leaks)
        notes = (
            *review.notes(spec, self.workspace.cache),
            *review.notes_of_masks(images),
            *([known] if known else []),
        )
        pairs = task.samples(images.validation.images, images.validation.labels)
        samples = tuple((base64.b64encode(image).decode(), base64.b64encode(truth).decode()) for image, truth in pairs)
        return DataReady(images.to_json() | {"leaks": leaks}, notes, samples, images.read_test is not None)
