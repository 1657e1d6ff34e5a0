"""Some validation images, for a device to judge by."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vitsearch.core.preprocessing import ModelView
from vitsearch.core.spread import spread_rows
from vitsearch.core.stage import Stage
from vitsearch.stages.job import Job, Stored
from vitsearch_agent.base.canonical_json import digest


@dataclass(frozen=True)
class SubsetJob(Job[Stored]):
    """Writes a number of validation images (`spread_rows`) as a model takes them, or (None) their labels: a .npy file,
    float32 (images, channels, height, width) or int64 (images)."""

    stage = Stage.SUBSET
    view: ModelView | None
    images: int

    def key(self, fingerprint: str) -> str:
        """Give the key of the file.

        Args:
            fingerprint: Of the data.

        Returns:
            A SHA-256.
        """
        view = None if self.view is None else self.view.in_keys()
        described = {"stage": self.stage, "data": fingerprint, "view": view, "rows": "spread", "images": self.images}
        return digest(described)

    def work(self) -> Stored:
        import numpy as np

        from vitsearch.stages.parts.images import batches, load_data

        images = load_data(self.workspace)
        with tempfile.TemporaryDirectory() as folder:
            path, rows = Path(folder) / "subset.npy", spread_rows(len(images.validation), self.images)
            if self.view is None:
                labels = images.validation.labels[rows]
                np.save(path, labels.astype("<i8") if labels.ndim == 1 else labels)
            else:
                wanted = images.validation.images[rows]
                np.save(path, np.concatenate([*batches(wanted, self.view)]).astype("<f4"))
            return Stored(self.workspace.store.put(path), path.stat().st_size)
