"""What a worker does for each job of :mod:`vitsearch.jobs`: files in, files and numbers out.

Only workers import this module: it brings torch and timm. What is loaded once (data, bases) stays in
the worker's memory for the next stage.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vitsearch import backbones, data, distillation, jobs, train
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.compress import (
    batch_norms,
    fake_quant,
    macs,
    narrow,
    prune,
    quantize,
    refit,
    scores,
    sensitivity,
    sequential,
    sparsity,
    tokens,
)
from vitsearch.compress.statistics import Statistics
from vitsearch.data.arrays import Bytes, Floats, Labels
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, deploy, evaluate
from vitsearch.store import FileStore

EVALUATION_BATCH = 100
ROUNDED_PARITY_LIMIT = 0.05


def describe_data(job: jobs.DataJob) -> jobs.DataReady:
    return jobs.DataReady(_data(job.workshop).to_json())


def prepare_base(job: jobs.BaseJob) -> jobs.Base:
    """Starting weights as they are when they know the user's classes, else trained on them."""
    images = _data(job.workshop)
    built = backbones.find(job.source.backbone).build(_spec(job.source, job.workshop))
    if built.head_is_new or not _knows_classes(job.source, images):
        _train_base(built.model, images, job)
    logits = _logits(built.model, images, images.validation.images, job.source.resolution)
    built.model.cpu()
    accuracy = train.accuracy(logits, images.validation.labels)
    return jobs.Base(_save_weights(built.model, job.workshop.store), accuracy, len(logits))


def study_anatomy(job: jobs.AnatomyJob) -> jobs.AnatomyFound:
    images, backbone = _data(job.workshop), backbones.find(job.source.backbone)
    model = _base(job.source, job.workshop).to(_torch_device())
    inputs = _drawn(job.workshop, job.calibration, job.source.resolution, _torch_device())
    labels = images.train.labels[_rows(images, job.calibration)]
    found = scores.collect(model, backbone, inputs, torch.tensor(labels, device=inputs.device))
    anatomy = backbone.anatomy(model, _spec(job.source, job.workshop))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.safetensors"
        found.save(path)
        sha256 = job.workshop.store.put(path)
    return jobs.AnatomyFound(anatomy.to_json(), found.scores().to_json(), sha256)


def study_sensitivity(job: jobs.SensitivityJob) -> jobs.Stored:
    model = _base(job.source, job.workshop).to(_torch_device())
    inputs = _drawn(job.workshop, job.calibration, job.source.resolution, _torch_device())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sensitivity.json"
        path.write_text(json.dumps(sensitivity.rounding_damage(model, inputs)))
        return jobs.Stored(job.workshop.store.put(path), path.stat().st_size)


def cache_logits(job: jobs.LogitsJob) -> jobs.Stored:
    return _cached(job, _base(job.source, job.workshop))


def cache_features(job: jobs.FeaturesJob) -> jobs.Stored:
    return _cached(job, distillation.Features(_base(job.source, job.workshop)))


def _cached(job: jobs.LogitsJob, model: nn.Module) -> jobs.Stored:
    images = _data(job.workshop)
    if job.split == "train":
        pool = train.training_pool(len(images.train), job.recipe)
        logits = _logits(model, images, images.train.images, job.source.resolution, pool)
    else:
        logits = _logits(model, images, images.validation.images[: job.images], job.source.resolution)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits.npy"
        np.save(path, logits)
        return jobs.Stored(job.workshop.store.put(path), path.stat().st_size)


def cut_subset(job: jobs.SubsetJob) -> jobs.Stored:
    images = _data(job.workshop)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subset.npy"
        if job.resolution is None:
            np.save(path, images.validation.labels[: job.images].astype("<i8"))
        else:
            wanted = images.validation.images[: job.images]
            np.save(path, np.concatenate([*_batches(images, wanted, job.resolution)]).astype("<f4"))
        return jobs.Stored(job.workshop.store.put(path), path.stat().st_size)


def build_graph(job: jobs.ScreenJob) -> jobs.Graph:
    """The graph a plan leads to, from the starting weights: enough to measure its cost."""
    model = _deployed(_shaped(job.pruned, job.workshop), job)
    macs_m, params_m = macs.count(model, _example(job.pruned.source.resolution, job.workshop))
    with tempfile.TemporaryDirectory() as folder:
        path, parity = _export(model, job, Path(folder))
        return jobs.Graph(job.workshop.scratch.put(path), path.stat().st_size, macs_m, params_m, parity)


def take_signal(job: jobs.SignalJob) -> jobs.SignalSeen:
    return _judge(_refitted(job.pruned, job.workshop), job.pruned, job.base_logits_sha256, job.images, job.workshop)


def train_rung(job: jobs.TrainJob) -> jobs.Trained:
    """Fine-tune from the rung before."""
    return _tuned(_compressed(job.pruned, job.workshop, job.checkpoint_sha256), job)


def train_quantized(job: jobs.QatJob) -> jobs.Trained:
    """Fine-tune with the rounding of static int8 in place, from where post-training quantization stands."""
    model = _compressed(job.pruned, job.workshop, job.checkpoint_sha256)
    fake_quant.prepare(model, _drawn_batches(job.workshop, job.calibration, job.pruned.source.resolution))
    return _tuned(model, job)


def _tuned(model: nn.Module, job: jobs.TrainJob) -> jobs.Trained:
    """A tune that ends worse (accuracy and divergence) is thrown away."""
    images, resolution = _data(job.workshop), job.pruned.source.resolution
    start = {name: value.clone() for name, value in model.state_dict().items()}
    before = _judge(model, job.pruned, job.base_logits_sha256, job.images, job.workshop)
    task = _fine_tune_task(job, images, resolution)
    with sparsity.frozen_zeros(model) if job.pruned.sparsity else nullcontext():
        report = train.fine_tune(model, task)
    after = _judge(model, job.pruned, job.base_logits_sha256, job.images, job.workshop)
    kept_start = after.accuracy < before.accuracy and after.kl > before.kl
    if kept_start:
        model.load_state_dict(start)
        after = before
    sha256 = _save_weights(model.cpu(), job.workshop.store)
    return jobs.Trained(after.accuracy, after.kl, after.n, sha256, report.steps, kept_start)


def export_artifact(job: jobs.ExportJob) -> jobs.Exported:
    """The file that would be shipped, and its accuracy in its own runtime on the validation split."""
    images, resolution = _data(job.workshop), job.pruned.source.resolution
    model = _deployed(_compressed(job.pruned, job.workshop, job.checkpoint_sha256), job)
    with fake_quant.unrounded(model):
        macs_m, params_m = macs.count(model, _example(resolution, job.workshop))
    with tempfile.TemporaryDirectory() as folder:
        path, parity = _export(model, job, Path(folder))
        batches = _batches(images, images.validation.images, resolution)
        logits = evaluate.logits(path, batches, batch_size=EVALUATION_BATCH)
        if not np.isfinite(logits).all():
            raise StageError("export", "not_finite", f"{path.name} gives NaN or infinity on validation images")
        correct = int((logits.argmax(1) == images.validation.labels).sum())
        sha256 = job.workshop.store.put(path)
        return jobs.Exported(sha256, path.stat().st_size, macs_m, params_m, parity, correct, len(logits))


# ---- what the stages share


@lru_cache(maxsize=2)
def _load_data(spec: tuple[tuple[str, object], ...], cache: Path) -> data.ImageData:
    return data.load(data.DataSpec.from_json(dict(spec)), cache)


def _data(workshop: jobs.Workshop) -> data.ImageData:
    return _load_data(tuple(sorted(workshop.data.items())), workshop.cache)


def _spec(source: jobs.Source, workshop: jobs.Workshop) -> backbones.ModelSpec:
    identity = _data(workshop).identity
    return backbones.ModelSpec(
        source.backbone,
        source.weights,
        source.resolution,
        identity.classes,
        identity.channels,
        window_size=source.window_size,
    )


def _base(source: jobs.Source, workshop: jobs.Workshop) -> nn.Module:
    return backbones.find(source.backbone).build(_spec(source, workshop)).model.eval()


def _pruned(pruned: jobs.Pruned, workshop: jobs.Workshop) -> nn.Module:
    model = _base(pruned.source, workshop)
    example = _example(pruned.source.resolution, workshop)
    prune.apply(model, backbones.find(pruned.source.backbone), pruned.effect, example)
    return model


def _shaped(pruned: jobs.Pruned, workshop: jobs.Workshop) -> nn.Module:
    """Everything that the effect says about the graph and its zeros; the weights are those that were not cut."""
    model = _pruned(pruned, workshop)
    if pruned.sparsity is not None:
        sparsity.magnitude(model, pruned.effect.weight_sparsity)
    tokens.apply(model, pruned.effect)
    return model


def _compressed(pruned: jobs.Pruned, workshop: jobs.Workshop, checkpoint: str | None) -> nn.Module:
    """With the weights of ``checkpoint``; without one as rung 0 leaves it: refitted in closed form."""
    if checkpoint is None:
        return _refitted(pruned, workshop)
    model = _shaped(pruned, workshop)
    fake_quant.load(model, load_file(workshop.store.get(checkpoint)))
    return model


def _refitted(pruned: jobs.Pruned, workshop: jobs.Workshop) -> nn.Module:
    """Rung 0: batch norms settled where the resolution is another, then cut, fitted in parallel and in sequence,
    and last the weights that become zero."""
    base, backbone, effect = _base(pruned.source, workshop), backbones.find(pruned.source.backbone), pruned.effect
    _settle(base, pruned, workshop)
    model = copy.deepcopy(base)
    prune.apply(model, backbone, replace(effect, embed=()), _example(pruned.source.resolution, workshop))
    refit.refit(model, base, backbone, effect, Statistics.load(workshop.store.get(pruned.statistics_sha256)))
    fit = _sequential_fit(base, model, pruned, workshop)
    if effect.embed:
        backbone.slice_stream(model, effect.embed)
    if not sequential.follows(effect) or pruned.token_predictors is not None:
        fit(model)
    tokens.apply(model, effect)
    if pruned.token_predictors is not None:
        batches = _drawn_batches(workshop, pruned.token_predictors, pruned.source.resolution)
        tokens.fit_predictors(model.cpu(), batches)
    if sequential.follows(effect):
        fit(model)
    if pruned.sparsity is not None:
        _thin_out(model, pruned.sparsity, pruned, workshop)
    return model.cpu()


def _sequential_fit(
    base: nn.Module, wide: nn.Module, pruned: jobs.Pruned, workshop: jobs.Workshop
) -> Callable[[nn.Module], None]:
    """Fits what was cut of ``base`` to what that gives, in place; where nothing is cut it does nothing. ``wide``
    is cut but for the channels of the stream."""
    if pruned.refit is None:
        return lambda model: None
    backbone = backbones.find(pruned.source.backbone)
    inputs = _drawn(workshop, pruned.refit, pruned.source.resolution, _torch_device())
    embed = pruned.effect.embed
    wanted = sequential.targets(base.to(inputs.device), backbone, inputs, embed)
    read = narrow.readings(base, wide, backbone, inputs) if embed else {}

    def fit(model: nn.Module) -> None:
        readers = partial(narrow.fitting, model, backbone, embed, read)
        sequential.fit(model.to(inputs.device), backbone, wanted, inputs, readers)

    return fit


def _thin_out(model: nn.Module, seen: jobs.Calibration, pruned: jobs.Pruned, workshop: jobs.Workshop) -> None:
    """The first images of ``seen`` decide which weights go; behind them batch norms are settled on all of it."""
    resolution = pruned.source.resolution
    few = _drawn(workshop, replace(seen, images=sparsity.IMAGES), resolution, _torch_device())
    sparsity.fit(model.to(few.device), pruned.effect.weight_sparsity, few)
    batch_norms.settle(model.cpu(), _drawn_batches(workshop, seen, resolution))


def _settle(model: nn.Module, pruned: jobs.Pruned, workshop: jobs.Workshop) -> None:
    if pruned.batch_norms is not None:
        batch_norms.settle(model, _drawn_batches(workshop, pruned.batch_norms, pruned.source.resolution))


def _judge(
    model: nn.Module, pruned: jobs.Pruned, base_logits: str, count: int, workshop: jobs.Workshop
) -> jobs.SignalSeen:
    images = _data(workshop)
    logits = _logits(model, images, images.validation.images[:count], pruned.source.resolution)
    reference = np.load(workshop.store.get(base_logits), mmap_mode="r")
    labels = images.validation.labels[:count]
    return jobs.SignalSeen(train.accuracy(logits, labels), train.kl_divergence(reference, logits), len(logits))


def _knows_classes(source: jobs.Source, images: data.ImageData) -> bool:
    """A classifier of the right width is not enough: the hub's and ours know their own classes only.

    A user's file is taken at its word.
    """
    if source.weights == "builtin":
        return BUILTIN[source.backbone].class_names == images.class_names
    return source.weights != "hub"


def _train_base(model: nn.Module, images: data.ImageData, job: jobs.BaseJob) -> None:
    """From labels alone, on all training images; a recipe that names 0 images an epoch sees all in each."""
    recipe = replace(job.recipe, images_per_epoch=job.recipe.images_per_epoch or len(images.train))
    task = train.FineTuneTask(
        images=images.train.images,
        labels=images.train.labels,
        resolution=job.source.resolution,
        mean=images.mean,
        std=images.std,
        recipe=recipe,
        epochs=recipe.rungs[-1],
        device=_torch_device(),
    )
    train.fine_tune(model, task)


def _fine_tune_task(job: jobs.TrainJob, images: data.ImageData, resolution: int) -> train.FineTuneTask:
    teaching, teacher, store = job.teaching, job.teaching.live_teacher, job.workshop.store
    return train.FineTuneTask(
        images=images.train.images,
        labels=images.train.labels,
        resolution=resolution,
        mean=images.mean,
        std=images.std,
        recipe=job.recipe,
        epochs=job.end - job.start,
        distillation=teaching.method,
        teacher_logits=_mapped(store, teaching.logits_sha256),
        teacher_features=_mapped(store, teaching.features_sha256),
        epochs_before=job.start,
        device=_torch_device(),
        pool=train.training_pool(len(images.train), job.recipe),
        live_teacher=train.LiveTeacher(_base(teacher, job.workshop), teacher.resolution) if teacher else None,
        beside=_beside(job),
    )


def _beside(job: jobs.TrainJob) -> Callable[[nn.Module], AbstractContextManager[train.BesideLoss]] | None:
    """Networks that choose tokens learn from the unpruned model too, at the same resolution."""
    if job.pruned.token_predictors is None:
        return None
    return partial(tokens.lessons, unpruned=_base(job.pruned.source, job.workshop))


def _mapped(store: FileStore, sha256: str | None) -> Floats | None:
    """A stored array that is read row by row: every trial of a machine shares one copy in memory."""
    return None if sha256 is None else np.load(store.get(sha256), mmap_mode="r")


def _torch_device() -> str:
    """The runner hides the GPUs from a worker that was given none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _deployed(model: nn.Module, job: jobs.ScreenJob | jobs.ExportJob) -> nn.Module:
    source = job.pruned.source
    shape = tuple(_example(source.resolution, job.workshop).shape)
    ships = deploy.deployed(model, backbones.find(source.backbone), shape)
    if job.pruned.sparsity is not None:
        sparsity.verify(ships, job.pruned.effect.weight_sparsity)
    return ships


def _export(model: nn.Module, job: jobs.ScreenJob | jobs.ExportJob, folder: Path) -> tuple[Path, float]:
    resolution = job.pruned.source.resolution
    plain, final = folder / "fp32.onnx", folder / "model.onnx"
    shape = tuple(_example(resolution, job.workshop).shape)
    with fake_quant.unrounded(model):
        report = EXPORTERS.get(job.deployment.runtime)().export(model, shape, plain, job.opset)
    inputs = _drawn(job.workshop, job.calibration, resolution).numpy()
    learned = fake_quant.learned(model)
    left = fake_quant.weights_of(model, job.pruned.effect.fp32_layers)
    quantize.quantize(plain, final, job.deployment.precision, inputs, learned, left)
    return final, _rounded_parity(model, final, inputs) if learned else report.parity_rel


def _rounded_parity(model: nn.Module, path: Path, inputs: Floats) -> float:
    """Largest difference of the file's logits to those of the model that rounds in torch, over the largest
    logit: a value that lies between two steps may be rounded to either, so it is far from that of fp32."""
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    relative = float(np.abs(evaluate.logits(path, inputs, EVALUATION_BATCH) - expected).max() / np.abs(expected).max())
    if not relative <= ROUNDED_PARITY_LIMIT:
        told = f"onnxruntime and the model that was trained for int8 differ by {relative:.1e} of the largest logit"
        raise StageError("export", "parity", f"{told}, allowed {ROUNDED_PARITY_LIMIT:.0e}")
    return relative


def _rows(images: data.ImageData, wanted: jobs.Calibration) -> Labels:
    """Indices of training images, of all where there are fewer than wanted."""
    return np.random.default_rng(wanted.seed).permutation(len(images.train))[: wanted.images]


def _drawn(workshop: jobs.Workshop, wanted: jobs.Calibration, resolution: int, device: str = "cpu") -> torch.Tensor:
    """The training images that something is measured on, (N, C, H, W)."""
    images = _data(workshop)
    return _tensor(images, images.train.images[_rows(images, wanted)], resolution, device)


def _drawn_batches(workshop: jobs.Workshop, wanted: jobs.Calibration, resolution: int) -> Iterator[torch.Tensor]:
    """The same, some at a time."""
    images = _data(workshop)
    return map(torch.from_numpy, _batches(images, images.train.images[_rows(images, wanted)], resolution))


def _logits(
    model: nn.Module, images: data.ImageData, wanted: Bytes, resolution: int, rows: Labels | None = None
) -> Floats:
    """``model`` is on the worker's device afterwards."""
    model.to(_torch_device())
    return train.predict_logits(model, wanted, resolution, images.mean, images.std, rows=rows)


def _tensor(images: data.ImageData, wanted: Bytes, resolution: int, device: str = "cpu") -> torch.Tensor:
    return to_tensor(wanted, resolution, images.mean, images.std, device)


def _batches(images: data.ImageData, wanted: Bytes, resolution: int) -> Iterator[Floats]:
    """As many at once as an artifact is run on: a large split never lies in memory as floats."""
    for start in range(0, len(wanted), EVALUATION_BATCH):
        yield _tensor(images, wanted[start : start + EVALUATION_BATCH], resolution).numpy()


def _example(resolution: int, workshop: jobs.Workshop) -> torch.Tensor:
    return torch.zeros(1, _data(workshop).identity.channels, resolution, resolution)


def _save_weights(model: nn.Module, store: FileStore) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({name: value.contiguous() for name, value in fake_quant.state_of(model).items()}, path)
        return store.put(path)
