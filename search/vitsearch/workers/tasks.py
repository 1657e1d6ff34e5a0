"""The work of each job of `vitsearch.pipeline.jobs`: files in, files and numbers out.

`TASKS` maps each job class to its function. Only workers import this module, because it imports torch and timm.
"""

from __future__ import annotations

import base64
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from vitsearch import data
from vitsearch.backbones.builtin import BUILTIN, JUDGED_ON
from vitsearch.backbones.weights import note_on
from vitsearch.compress import macs, scores, sparsity, tokens
from vitsearch.compress.quantization import fake_quant, sensitivity
from vitsearch.core.caveats.leaks import leak_text
from vitsearch.core.class_weights import NONE, class_weights
from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import METRICS
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.resolve import Scores
from vitsearch.core.spread import spread_rows
from vitsearch.data import review
from vitsearch.data.arrays import Floats
from vitsearch.data.builtin import is_builtin
from vitsearch.data.leaks import find_leaks
from vitsearch.data.masks import label_counts
from vitsearch.errors import StageError
from vitsearch.export import evaluate, precision_shares
from vitsearch.pipeline import jobs
from vitsearch.storage.files import Store
from vitsearch.tasks import CLASSIFICATION
from vitsearch.training import average, distillation, fine_tune
from vitsearch.training.checkpoint import Checkpoint
from vitsearch.workers.exporting import Written, deployed, export, float_layers
from vitsearch.workers.images import (
    batches,
    blank,
    drawn,
    drawn_batches,
    drawn_rows,
    holdout_truth,
    load_data,
    own_data,
    own_logits,
    predict,
    torch_device,
    validation_truth,
)
from vitsearch.workers.models import base_model, compressed, family_of, model_spec, refitted, shaped
from vitsearch.workers.pseudo_labels import mean_cosine
from vitsearch.workers.shipping import evaluate_on_test


def describe_data(job: jobs.DataJob) -> jobs.DataReady:
    spec = data.DataSpec.from_json(dict(job.workspace.data))
    images, task = load_data(job.workspace), job.workspace.task.find()
    leaks = {} if is_builtin(spec.source) else find_leaks(own_data(job.workspace), job.workspace.cache)
    known = leak_text(leaks)
    notes = (*review.notes(spec, job.workspace.cache), *review.notes_of_masks(images), *([known] if known else []))
    pairs = task.samples(images.validation.images, images.validation.labels)
    samples = tuple((base64.b64encode(image).decode(), base64.b64encode(truth).decode()) for image, truth in pairs)
    return jobs.DataReady(images.to_json() | {"leaks": leaks}, notes, samples, images.read_test is not None)


def prepare_base(job: jobs.BaseJob) -> jobs.Base:
    """Starting weights as they are when they are finished for the task, else trained for it."""
    images, task = load_data(job.workspace), job.workspace.task.find()
    built = family_of(job.source, job.workspace).build(model_spec(job.source, job.workspace))
    if built.head_is_new or not _is_finished(job.source, job.workspace):
        _train_base(built.model, images, job)
    qualities = _shipped_qualities(job.source, images) if task == CLASSIFICATION else None
    if qualities is None:
        outputs = predict(built.model, images.validation.images, job.source.view)
        truth = validation_truth(job.workspace, job.truth_sha256)
        if task.has_reference and truth.reference is None:
            truth = replace(truth, reference=outputs)
        qualities = task.judge(outputs, truth).values
    weights = _save_weights(built.model.cpu(), job.workspace.store)
    return jobs.Base(weights, qualities, len(images.validation.images), note_on(job.source.weights))


def _shipped_qualities(source: jobs.Source, images: data.ImageData) -> Mapping[str, float] | None:
    """Those that ship with a built-in base, on the data set that ships too."""
    base = BUILTIN.get(source.backbone)
    if source.weights != "builtin" or base is None or source.view != ModelView(base.resolution, base.preprocessing):
        return None
    return base.qualities if images.identity.fingerprint == JUDGED_ON.fingerprint else None


def find_block_structure(job: jobs.BlockStructureJob) -> jobs.BlockStructureFound:
    images, backbone = load_data(job.workspace), family_of(job.source, job.workspace)
    if job.calibration is None:
        structure = backbone.block_structure(
            base_model(job.source, job.workspace), model_spec(job.source, job.workspace)
        )
        return jobs.BlockStructureFound(structure.to_json(), Scores.equal(structure).to_json(), "")
    model = base_model(job.source, job.workspace).to(torch_device())
    inputs = drawn(job.workspace, job.calibration, job.source.view, torch_device())
    labels = images.train.labels[drawn_rows(images, job.calibration)]
    task = job.workspace.task.find()
    statistics = scores.collect(model, backbone, inputs, torch.tensor(labels, device=inputs.device), task)
    block_structure = backbone.block_structure(model, model_spec(job.source, job.workspace))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.safetensors"
        statistics.save(path)
        sha256 = job.workspace.store.put(path)
    return jobs.BlockStructureFound(block_structure.to_json(), statistics.scores().to_json(), sha256)


def study_sensitivity(job: jobs.SensitivityJob) -> jobs.Stored:
    model = base_model(job.source, job.workspace).to(torch_device())
    inputs = drawn(job.workspace, job.calibration, job.source.view, torch_device())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sensitivity.json"
        path.write_text(json.dumps(sensitivity.rounding_sensitivity(model, inputs, job.workspace.task.find())))
        return jobs.Stored(job.workspace.store.put(path), path.stat().st_size)


def cache_logits(job: jobs.LogitsJob) -> jobs.Stored:
    return _cached(job, base_model(job.source, job.workspace))


def cache_features(job: jobs.FeaturesJob) -> jobs.Stored:
    return _cached(job, distillation.Features(base_model(job.source, job.workspace)))


def _cached(job: jobs.LogitsJob, model: nn.Module) -> jobs.Stored:
    images = load_data(job.workspace)
    outputs = _outputs_for(job, model, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs.npy"
        np.save(path, outputs)
        return jobs.Stored(job.workspace.store.put(path), path.stat().st_size)


def _outputs_for(job: jobs.LogitsJob, model: nn.Module, images: data.ImageData) -> Floats:
    match job.images:
        case "validation":
            return predict(model, images.validation.images, job.source.view)
        case "shipped":
            split = images.validation if images.test is None else images.test
            return predict(model, split.images, job.source.view)
        case "holdout":
            rows = images.holdout
        case "learned":
            rows = images.learned
        case "train":
            rows = fine_tune.training_pool(images.learned, job.recipe)
    return predict(model, images.train.images, job.source.view, rows)


def make_subset(job: jobs.SubsetJob) -> jobs.Stored:
    images = load_data(job.workspace)
    with tempfile.TemporaryDirectory() as folder:
        path, rows = Path(folder) / "subset.npy", spread_rows(len(images.validation), job.images)
        if job.view is None:
            labels = images.validation.labels[rows]
            np.save(path, labels.astype("<i8") if labels.ndim == 1 else labels)
        else:
            wanted = images.validation.images[rows]
            np.save(path, np.concatenate([*batches(wanted, job.view)]).astype("<f4"))
        return jobs.Stored(job.workspace.store.put(path), path.stat().st_size)


def build_graph(job: jobs.ScreenJob) -> jobs.ExportedGraph:
    """Export the graph of a plan with its starting weights, which is enough to measure its cost."""
    model = deployed(shaped(job.spec, job.workspace), job)
    macs_m, params_m = macs.count(model, blank(job.spec.source.resolution, job.workspace))
    with tempfile.TemporaryDirectory() as folder:
        written = export(model, job, Path(folder))
        return _graph(job.workspace.scratch, written, macs_m, params_m)


def score_proxy(job: jobs.ProxyJob) -> jobs.Evaluation:
    return _judged(refitted(job.spec, job.workspace), job)


def train_rung(job: jobs.TrainJob) -> jobs.Trained:
    """Fine-tune from the rung before."""
    return _tuned(compressed(job.spec, job.workspace, job.checkpoint_sha256), job, job.before)


def train_quantized(job: jobs.QatJob) -> jobs.Trained:
    """Fine-tune with the rounding of static int8, starting from post-training quantization."""
    model = compressed(job.spec, job.workspace, job.checkpoint_sha256)
    images = drawn_batches(job.workspace, job.calibration, job.spec.source.view)
    fake_quant.prepare(model, images, float_layers(model))
    return _tuned(model, job, _judged(model, job))


def _tuned(model: nn.Module, job: jobs.TrainJob, before: jobs.Evaluation) -> jobs.Trained:
    """Train, and keep the start, the last weights or their average, by what the job says."""
    start = average.copy_of(model)
    training = _training_spec(job, load_data(job.workspace))
    with sparsity.frozen_zeros(model) if job.spec.calibrations.sparsity else nullcontext():
        report = fine_tune.fine_tune(model, training)
    last, after = average.copy_of(model), _judged(model, job)
    model.load_state_dict(report.average)
    ends: dict[jobs.Kept, tuple[jobs.Evaluation, average.State]] = {
        "start": (before, start),
        "last": (after, last),
        "average": (_judged(model, job), report.average),
    }
    kept = min(ends, key=lambda end: _distance(ends[end][0], job))
    evaluation, state = ends[kept]
    model.load_state_dict(state)
    return jobs.Trained(evaluation, _save_weights(model.cpu(), job.workspace.store), report.steps, kept)


def _distance(evaluation: jobs.Evaluation, job: jobs.TrainJob) -> tuple[float, float]:
    """How far an end of a training is from what it is for."""
    if job.keeps == "nearest":
        return evaluation.divergence, 0.0
    metric = job.workspace.task.find().metrics[0]
    value = evaluation.qualities.get(metric.name)
    return math.inf if value is None else metric.error(value), evaluation.divergence


def export_artifact(job: jobs.ExportJob) -> jobs.Exported:
    """Export the file that would be shipped and judge its outputs in its own runtime on the validation split."""
    images, source = load_data(job.workspace), job.spec.source
    model = deployed(compressed(job.spec, job.workspace, job.checkpoint_sha256), job)
    with fake_quant.unrounded(model):
        macs_m, params_m = macs.count(model, blank(source.resolution, job.workspace))
    with tempfile.TemporaryDirectory() as folder:
        written = export(model, job, Path(folder))
        opened = _opened(written, job)
        outputs = opened.logits(batches(images.validation.images, source.view))
        if not np.isfinite(outputs).all():
            raise StageError(
                "export",
                "not_finite",
                f"{written.file.path.name}: NaN or infinity among the outputs for the validation images",
            )
        judged = job.workspace.task.find().judge(outputs, validation_truth(job.workspace, job.truth_sha256))
        judged.refuse_not_finite("export")
        graph = _graph(job.workspace.store, written, macs_m, params_m)
        if written.file.judged is not None:
            graph = replace(graph, judged_sha256=job.workspace.store.put_model(written.file.judged).sha256)
        kept, own = precision_shares.by_precision(written.file, job.deployment, opened), own_logits(job.workspace)
        cosine = None if own is None else mean_cosine(outputs, own)
        return jobs.Exported(graph, judged, len(outputs), kept, cosine)


def _opened(written: Written, job: jobs.ExportJob) -> evaluate.OpenFile:
    """The file in the batch in which it is judged."""
    batch = job.deployment.batch or job.batch
    if written.opened.batch_size == batch:
        return written.opened
    path, judge = evaluate.judging_job(written.file, job.deployment)
    return evaluate.open_file(path, batch, job=judge)


def _graph(store: Store, written: Written, macs_m: float, params_m: float) -> jobs.ExportedGraph:
    stored = store.put_model(written.file.path)
    described = written.parity, written.file.options, written.structure
    graph = jobs.ExportedGraph(stored.sha256, stored.size_bytes, macs_m, params_m, *described)
    return replace(graph, exporter=written.exporter, float_weights=written.float_weights)


def _judged(model: nn.Module, job: jobs.ProxyJob | jobs.TrainJob) -> jobs.Evaluation:
    """What the holdout says of `model`, without what it remembers of it.

    Bases that ship with vitsearch, and files of users, may have learned from the holdout. Ours are 2.7 to 5.2 points
    more accurate on it than on validation images. A model that was cut keeps less of this the further it is from its
    base: with the exponential of the divergence subtracted, 34 states of cut models were .7 points off their accuracy
    on 2,000 validation images, 1.5 points without and 2.8 points with all of it.
    """
    images, reference, task = load_data(job.workspace), job.reference, job.workspace.task.find()
    outputs = predict(model, images.train.images, job.spec.source.view, images.holdout)
    base = np.load(job.workspace.store.get(reference.outputs_sha256), mmap_mode="r")
    truth = holdout_truth(job.workspace, reference.truth_sha256)
    divergence = max(0.0, _finite(float(task.diverge(outputs, base).mean()), job))
    left = math.exp(-divergence / task.divergence.forgotten)
    judged = Metrics(task.judge(outputs, truth).figures)
    of_base, qualities = task.judge(base, truth).values, {}
    for name, value in judged.known.items():
        metric = METRICS[name]
        remembered = metric.gain(of_base[name], reference.qualities[name])
        qualities[name] = metric.shifted(value, -remembered * left)
    errors = {name: (high - low) / (2 * Z_95) for name, (low, high) in judged.intervals.items()}
    return jobs.Evaluation(qualities, divergence, len(outputs), errors)


def _finite(divergence: float, job: jobs.ProxyJob | jobs.TrainJob) -> float:
    """The divergence. `max` would make the best of a NaN."""
    if not math.isfinite(divergence):
        message = f"the outputs for the holdout diverge by {divergence} from those of the unpruned model"
        raise StageError(job.stage, "not_finite", message)
    return divergence


def _is_finished(source: jobs.Source, workspace: jobs.Workspace) -> bool:
    """Whether starting weights whose head fits need no training of their own.

    A head of the right width is not enough: weights of the hub and built-in ones know their own classes only. A user's
    file is assumed to fit. Where there is a reference, it alone is finished.
    """
    if workspace.reference is not None:
        return (source.backbone, source.weights) == (workspace.reference.backbone, workspace.reference.weights)
    if source.weights == "builtin":
        is_classifier = workspace.task.kind == CLASSIFICATION.kind
        return is_classifier and BUILTIN[source.backbone].class_names == load_data(workspace).class_names
    return source.weights != "hub"


def _train_base(model: nn.Module, images: data.ImageData, job: jobs.BaseJob) -> None:
    """Train on all images to learn from, with labels, or by the outputs of the reference of the study; a recipe with 0
    images per epoch uses all in each."""
    recipe = replace(job.recipe, images_per_epoch=job.recipe.images_per_epoch or len(images.learned))
    teacher = None if job.targets is None else job.targets.live_teacher
    training = fine_tune.TrainingSpec(
        images=images.train.images,
        labels=images.train.labels,
        resolution=job.source.resolution,
        preprocessing=job.source.preprocessing,
        recipe=recipe,
        epochs=recipe.rungs[-1],
        device=torch_device(),
        pool=images.learned,
        class_weights=_class_weights(recipe, images),
        task=job.workspace.task.find(),
        teacher_outputs=None if job.targets is None else _mapped(job.workspace.store, job.targets.outputs_sha256),
        live_teacher=_live_teacher(teacher, job.workspace) if teacher else None,
    )
    fine_tune.fine_tune(model, training, None if job.checkpoint is None else Checkpoint(job.checkpoint))


def _training_spec(job: jobs.TrainJob, images: data.ImageData) -> fine_tune.TrainingSpec:
    targets, teacher, store = job.targets, job.targets.live_teacher, job.workspace.store
    return fine_tune.TrainingSpec(
        images=images.train.images,
        labels=images.train.labels,
        resolution=job.spec.source.resolution,
        preprocessing=job.spec.source.preprocessing,
        recipe=job.recipe,
        epochs=job.end - job.start,
        distillation=targets.method,
        teacher_outputs=_mapped(store, targets.outputs_sha256),
        teacher_features=_mapped(store, targets.features_sha256),
        epochs_before=job.start,
        device=torch_device(),
        pool=fine_tune.training_pool(images.learned, job.recipe),
        live_teacher=_live_teacher(teacher, job.workspace) if teacher else None,
        auxiliary_loss=_auxiliary_loss(job),
        class_weights=_class_weights(job.recipe, images),
        task=job.workspace.task.find(),
    )


def _live_teacher(source: jobs.Source, workspace: jobs.Workspace) -> fine_tune.LiveTeacher:
    return fine_tune.LiveTeacher(base_model(source, workspace), source.resolution, source.preprocessing)


def _class_weights(recipe: Recipe, images: data.ImageData) -> tuple[float, ...] | None:
    """The weights of a recipe, by the images that a study learns from; None for equal ones, whatever the labels are."""
    if recipe.class_weights == NONE:
        return None
    counts = label_counts(images.train.labels, images.learned, len(images.class_names))
    return class_weights(recipe.class_weights, images.class_names, counts.tolist())


def _auxiliary_loss(
    job: jobs.TrainJob,
) -> Callable[[nn.Module], AbstractContextManager[fine_tune.AuxiliaryLoss]] | None:
    """The loss of networks that choose tokens, against the unpruned model at the same resolution; `None` without
    any."""
    if job.spec.calibrations.token_predictors is None:
        return None
    unpruned, task = base_model(job.spec.source, job.workspace), job.workspace.task.find()
    return partial(tokens.auxiliary_loss, unpruned=unpruned, task=task)


def _mapped(store: Store, sha256: str | None) -> Floats | None:
    """A stored array, memory-mapped, so that all trials of a machine share one copy in memory."""
    return None if sha256 is None else np.load(store.get(sha256), mmap_mode="r")


def _save_weights(model: nn.Module, store: Store) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        state = fake_quant.state_of(model).items()
        apart = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state}  # some may be tied
        save_file(apart, path)
        return store.put(path)


TASKS: dict[type[jobs.Job[Any]], Callable[[Any], Any]] = {
    jobs.DataJob: describe_data,
    jobs.BaseJob: prepare_base,
    jobs.BlockStructureJob: find_block_structure,
    jobs.SensitivityJob: study_sensitivity,
    jobs.LogitsJob: cache_logits,
    jobs.FeaturesJob: cache_features,
    jobs.SubsetJob: make_subset,
    jobs.ScreenJob: build_graph,
    jobs.ProxyJob: score_proxy,
    jobs.TrainJob: train_rung,
    jobs.QatJob: train_quantized,
    jobs.ExportJob: export_artifact,
    jobs.ShipJob: evaluate_on_test,
}
"""The function for a job, by the exact class of the job."""
