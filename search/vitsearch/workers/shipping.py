"""What a bundle needs beside its model: the accuracy on the test images, and images to verify it by."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from vitsearch import backbones, data
from vitsearch.core.figures import Metrics
from vitsearch.core.record import Shipped
from vitsearch.errors import StageError
from vitsearch.export import ExportedFile, evaluate
from vitsearch.pipeline import jobs
from vitsearch.workers.images import EVALUATION_BATCH, batches, load_data, truth_of
from vitsearch_agent.verify.preprocessing import prepare


def evaluate_on_test(job: jobs.ShipJob) -> Shipped:
    """Classify every test image with the file that ships, in its own runtime."""
    data_set, store = load_data(job.workspace), job.workspace.store
    name, split = ("validation", data_set.validation) if data_set.test is None else ("test", data_set.test)
    stand_in = None if job.judged_sha256 is None else store.model(job.judged_sha256)
    path, judge = evaluate.judging_job(ExportedFile(store.model(job.model_sha256), stand_in), job.deployment)
    outputs = evaluate.logits(path, batches(split.images, job.source.view), job.batch, job=judge)
    if not np.isfinite(outputs).all():
        raise StageError("ship", "not_finite", f"{path.name}: NaN or infinity among the outputs for the {name} images")
    judged = job.workspace.task.find().judge(outputs, truth_of(split, job.workspace, job.truth_sha256))
    chosen = np.linspace(0, len(split) - 1, min(job.images, len(split))).astype(np.int64)
    settings = job.source.view.settings(data_set.image_size, data_set.channels)
    images = np.ascontiguousarray(split.images[chosen])
    inputs = (prepare(images[at : at + EVALUATION_BATCH], settings) for at in range(0, len(images), EVALUATION_BATCH))
    predicted = evaluate.logits(path, inputs, job.batch, job=judge).argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        np.save(file, images)
        stored = jobs.Stored(store.put(file), file.stat().st_size)
    return Shipped(
        name,
        split.sha256,
        len(split),
        Metrics(judged.figures),
        judged.tally,
        stored.sha256,
        stored.size_bytes,
        tuple(split.labels[chosen].tolist()),
        tuple(predicted.tolist()),
        {
            "weights": backbones.licence(job.source.backbone, job.source.weights),
            "data": data.licence(job.workspace.data),
        },
        job.batch,
    )
