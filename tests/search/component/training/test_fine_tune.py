"""Training and accuracy on slices of the committed data, with a tiny ViT."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from support import PYTHON_PATH, SUPPORT
from vitsearch import backbones
from vitsearch.core.activity import Work, doing
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, load
from vitsearch.errors import StageError
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.classification.divergence import kl_divergences
from vitsearch.training import distillation, fine_tune, inference

RECIPE = Recipe(
    rungs=(0, 1, 3), images_per_epoch=256, batch_size=32, lr=2e-3, weight_decay=0.05, warmup_steps=4,
    distillation_weight=0.5, temperature=2.0, seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load(DataSpec("builtin:fashion-mnist-14k"))


def tiny(seed: int = 0, **options) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, **sizes, **options)


def task(data, count=256, **values) -> fine_tune.TrainingSpec:
    images, labels = data.train.images[:count], data.train.labels[:count]
    return fine_tune.TrainingSpec(
        images,
        labels,
        ImageSize.square(28),
        Preprocessing(data.mean, data.std),
        **{"recipe": RECIPE, "epochs": 1.0} | values,
    )


def _divergence(base, logits) -> float:
    return float(kl_divergences(base, logits).mean())


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_loss_falls_and_the_report_counts(data):
    model = tiny()
    report = fine_tune.fine_tune(model, task(data, epochs=4))
    assert (report.steps, report.images) == (32, 1024)
    assert report.loss_last < report.loss_first - 0.2
    assert report.cpu_seconds > 0
    assert not model.training


def test_a_training_tells_how_far_it_is(data):
    with doing(Work()) as work:
        fine_tune.fine_tune(tiny(), task(data, epochs=2))
    assert re.fullmatch(r"epoch 2/2, train accuracy 0\.\d\d, evaluating", work.text)


def test_the_report_has_the_average_of_the_weights(data):
    model = tiny()
    start = weights(model)
    report = fine_tune.fine_tune(model, task(data, epochs=4))
    average = torch.cat([value.flatten() for value in report.average.values()])
    assert 0 < (average - weights(model)).norm() < 0.5 * (start - weights(model)).norm()


def test_frozen_statistics_are_those_of_the_start(data):
    for frozen in (True, False):
        torch.manual_seed(0)
        model = timm.create_model("efficientvit_b0", in_chans=1, num_classes=10)
        before = {name: value.clone() for name, value in model.named_buffers() if name.endswith("running_var")}
        recipe = dataclasses.replace(RECIPE, frozen_statistics=frozen)
        fine_tune.fine_tune(
            model, dataclasses.replace(task(data, count=32, recipe=recipe), resolution=ImageSize.square(32))
        )
        after = dict(model.named_buffers())
        assert all(torch.equal(after[name], value) for name, value in before.items()) == frozen


def test_training_does_not_depend_on_the_global_random_state(data):
    models = [tiny(drop_path_rate=0.2) for _ in range(2)]
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        fine_tune.fine_tune(model, task(data))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights(models[0]), weights(models[1]))
    other = tiny(drop_path_rate=0.2)
    fine_tune.fine_tune(other, task(data, recipe=dataclasses.replace(RECIPE, seed=1)))
    assert not torch.equal(weights(other), weights(models[0]))


@pytest.mark.long
def test_distillation_follows_the_teacher_not_the_labels(data):
    teacher = tiny(seed=5)
    fine_tune.fine_tune(teacher, task(data, epochs=8))
    images = data.train.images[:256]
    logits = inference.predict_logits(teacher, images, ImageSize.square(28), Preprocessing(data.mean, data.std))
    recipe = dataclasses.replace(RECIPE, distillation_weight=1.0)
    wrong = (data.train.labels[:256] + 1) % 10
    student = tiny()
    training = task(data, recipe=recipe, epochs=8, teacher_outputs=logits)
    report = fine_tune.fine_tune(student, dataclasses.replace(training, labels=wrong))
    predicted = inference.predict_logits(student, images, ImageSize.square(28), Preprocessing(data.mean, data.std))
    assert report.loss_last < report.loss_first
    assert _divergence(logits, predicted) < _divergence(
        logits, inference.predict_logits(tiny(), images, ImageSize.square(28), Preprocessing(data.mean, data.std))
    )
    assert inference.accuracy(predicted, logits.argmax(1)) > inference.accuracy(predicted, wrong) + 0.2


def test_the_loss_weighs_labels_and_teacher(data):
    model, rng = tiny().eval(), np.random.default_rng(0)
    teacher = rng.normal(size=(256, 10)).astype(np.float32)
    batch = np.arange(8)
    training = task(data, teacher_outputs=teacher)
    loss = fine_tune._batch(training, None, batch, "fp32")
    logits = torch.tensor(
        inference.predict_logits(
            model, training.images[batch], ImageSize.square(28), Preprocessing(data.mean, data.std)
        )
    )
    with distillation.method("logits", model, training.task, training.recipe, None) as method:
        seen = fine_tune._loss(method, model(loss.inputs), loss, training).item()
    ce = torch.nn.functional.cross_entropy(logits, torch.tensor(training.labels[batch])).item()
    soft = _divergence(teacher[batch] / 2, logits.numpy() / 2)
    assert seen == pytest.approx(0.5 * ce + 0.5 * 4 * soft, rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_classes_multiply_the_loss_of_the_labels_and_not_that_of_the_teacher(data, smoothing):
    weights, rng = tuple(float(weight) for weight in range(1, 11)), np.random.default_rng(0)
    logits, batch = torch.tensor(rng.normal(size=(8, 10)), dtype=torch.float32), np.arange(8)
    teacher = rng.normal(size=(256, 10)).astype(np.float32)
    training = task(data, teacher_outputs=teacher, recipe=dataclasses.replace(RECIPE, label_smoothing=smoothing))
    weighted = [dataclasses.replace(training, class_weights=each) for each in (None, (1.0,) * 10, weights)]
    with distillation.method("logits", tiny(), training.task, training.recipe, None) as method:
        losses = [
            fine_tune._loss(method, logits, fine_tune._batch(each, None, batch, "fp32"), each).item()
            for each in weighted
        ]
    assert losses[0] == pytest.approx(losses[1])
    log = logits.log_softmax(1).numpy()
    spread = np.full((8, 10), smoothing / 10)
    spread[np.arange(8), training.labels[batch]] += 1 - smoothing
    labels = -(spread * np.array(weights) * log).sum(1).mean()
    soft = _divergence(teacher[batch] / 2, logits.numpy() / 2)
    assert losses[2] == pytest.approx(0.5 * labels + 0.5 * 4 * soft, rel=1e-4)


def test_images_that_count_more_are_learned(data):
    """Labels that contradict each other: the weights decide which of them is learned."""
    rows = np.flatnonzero(np.isin(data.train.labels, (0, 1)))[:128]
    labels = np.tile([0, 1], 64)
    learned = []
    for weights in ((4.0, 0.25), (0.25, 4.0)):
        model = tiny()
        images, seen = data.train.images[rows], Preprocessing(data.mean, data.std)
        training = fine_tune.TrainingSpec(
            images, labels, ImageSize.square(28), seen, RECIPE, 2.0, class_weights=weights + (1.0,) * 8
        )
        fine_tune.fine_tune(model, training)
        predicted = inference.predict_logits(model, images, ImageSize.square(28), seen).argmax(1)
        learned.append((predicted == 0).mean())
    assert learned == [1.0, 0.0]


def test_models_with_two_heads_train(data):
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    model = timm.create_model("deit_tiny_distilled_patch16_224", embed_dim=32, depth=2, num_heads=2, **sizes)
    assert math.isfinite(fine_tune.fine_tune(model, task(data, count=64)).loss_last)


def test_attention_is_fused_again_afterwards(data):
    model = tiny()
    seen = []
    model.blocks[0].attn.register_forward_hook(lambda module, *_: seen.append(module.fused_attn))
    before = [block.attn.fused_attn for block in model.blocks]
    fine_tune.fine_tune(model, task(data, count=64))
    assert set(seen) == {False}
    assert [block.attn.fused_attn for block in model.blocks] == before


def test_a_loss_that_is_not_finite_fails_the_stage(data):
    recipe = dataclasses.replace(RECIPE, lr=1e30, warmup_steps=0)
    with pytest.raises(StageError, match=r"training failed \(not_finite\).*step .* of 8.*1e\+30") as caught:
        fine_tune.fine_tune(tiny(), task(data, recipe=recipe))
    assert (caught.value.stage, caught.value.kind) == ("train", "not_finite")


@pytest.mark.parametrize(("batch", "expected"), [(32, [22, 22, 21]), (2, [3] + [2] * 31), (1, [3] + [2] * 31)])
def test_no_batch_has_a_single_image(data, batch, expected):
    recipe = dataclasses.replace(RECIPE, images_per_epoch=65, batch_size=batch)
    sizes = []
    model = tiny()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    fine_tune.fine_tune(model, task(data, count=65, recipe=recipe))
    assert sizes == expected


AUGMENTED = dataclasses.replace(RECIPE, augmentation=Augmentation(flip=0.5, crop=0.6, mixup=0.2))
NO_LOGITS = np.zeros((256, 10), np.float32)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs_before": -1.0},
        {"teacher_outputs": NO_LOGITS[:3]},
        {"teacher_outputs": NO_LOGITS, "pool": np.arange(9)},
        {"teacher_outputs": NO_LOGITS, "recipe": AUGMENTED},
    ],
)
def test_contradictory_tasks_are_refused(data, values):
    with pytest.raises(ValueError):
        task(data, **values)


def test_training_on_labels_learns_the_classes(data):
    model = tiny()
    recipe = dataclasses.replace(RECIPE, rungs=(0, 6), images_per_epoch=1000, batch_size=50, warmup_steps=50)
    report = fine_tune.fine_tune(model, task(data, count=1000, recipe=recipe, epochs=6))
    assert (report.steps, report.images) == (120, 6000)
    logits = inference.predict_logits(
        model, data.validation.images[:500], ImageSize.square(28), Preprocessing(data.mean, data.std)
    )
    assert inference.accuracy(logits, data.validation.labels[:500]) > 0.4  # chance is 0.1


def test_only_rows_of_the_pool_are_read_and_never_all_at_once(data):
    class Watched(np.ndarray):
        read: ClassVar[list[int]] = []

        def __getitem__(self, key):
            self.read.append(len(key))
            return np.asarray(self)[key]

    pool = np.arange(0, 256, 2)
    images, labels = data.train.images[:256].view(Watched), data.train.labels[:256].copy()
    labels[1::2] = -1  # a label outside the pool would raise
    single, other = tiny(), tiny()
    fine_tune.fine_tune(single, dataclasses.replace(task(data, pool=pool), images=images, labels=labels))
    assert max(Watched.read) <= RECIPE.batch_size
    fine_tune.fine_tune(other, task(data, pool=pool))
    assert torch.equal(weights(single), weights(other))
    inference.predict_logits(
        single, images, ImageSize.square(28), Preprocessing(data.mean, data.std), batch_size=32, rows=pool
    )
    assert max(Watched.read) <= RECIPE.batch_size


def test_a_live_teacher_gives_the_same_training_as_its_cached_logits(data, monkeypatch):
    monkeypatch.setattr(fine_tune, "training_precision", lambda model, device: "fp32")
    teacher, students = tiny(seed=5), (tiny(), tiny())
    logits = inference.predict_logits(
        teacher, data.train.images[:256], ImageSize.square(28), Preprocessing(data.mean, data.std)
    )
    fine_tune.fine_tune(students[0], task(data, teacher_outputs=logits))
    fine_tune.fine_tune(
        students[1],
        task(
            data, live_teacher=fine_tune.LiveTeacher(teacher, ImageSize.square(28), Preprocessing(data.mean, data.std))
        ),
    )
    torch.testing.assert_close(weights(students[0]), weights(students[1]), atol=1e-4, rtol=1e-3)


def test_the_teacher_sees_augmented_images_at_its_own_resolution(data):
    torch.manual_seed(1)
    sizes = {"img_size": 35, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    teacher = timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=1, num_heads=2, **sizes)
    shown = {"teacher": [], "student": []}
    student = tiny()
    for name, model in (("teacher", teacher), ("student", student)):
        model.register_forward_pre_hook(lambda _, inputs, name=name: shown[name].append(inputs[0]))
    before = weights(teacher)
    live = fine_tune.LiveTeacher(teacher, ImageSize.square(35), Preprocessing(data.mean, data.std))
    fine_tune.fine_tune(student, task(data, count=64, recipe=AUGMENTED, live_teacher=live))
    assert torch.equal(weights(teacher), before)
    assert len(shown["teacher"]) == len(shown["student"]) == 2
    for large, small in zip(shown["teacher"], shown["student"], strict=True):
        assert (large.shape[-1], small.shape[-1]) == (35, 28)
        resized = torch.nn.functional.interpolate(large, (28, 28), mode="bilinear", antialias=True)
        assert (resized - small).abs().max() < 0.1


@pytest.mark.parametrize(("crop", "is_whole"), [(1.0, False), (0.999, True)])
def test_a_random_crop_is_not_cut_again(data, crop, is_whole):
    """The models see the middle half of an image that was not cropped; these have a bright frame."""
    framed = np.full((32, 28, 28, 1), 255, np.uint8)
    framed[:, 7:21, 7:21] = 0
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(flip=0.5, crop=crop))
    middle = Preprocessing((0.0,), (1.0,), crop_share=0.5)
    shown, student, teacher = [], tiny(), tiny(1)
    for model in (student, teacher):
        model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    live = fine_tune.LiveTeacher(teacher, ImageSize.square(28), middle)
    spec = task(data, count=32, recipe=recipe, live_teacher=live)
    fine_tune.fine_tune(student, dataclasses.replace(spec, images=framed, preprocessing=middle))
    assert len(shown) == 2
    assert [bool(images.max() > 0.9) for images in shown] == [is_whole, is_whole]


def test_augmented_training_does_not_depend_on_the_global_random_state(data):
    models = [tiny(), tiny()]
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        fine_tune.fine_tune(model, task(data, recipe=AUGMENTED))
    assert torch.equal(weights(models[0]), weights(models[1]))
    plain = tiny()
    fine_tune.fine_tune(plain, task(data))
    assert not torch.equal(weights(plain), weights(models[0]))


def test_frozen_blocks_keep_their_weights_and_the_rest_learns(data):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fine_tune.fine_tune(model, task(data, count=64, recipe=dataclasses.replace(RECIPE, frozen_blocks=1)))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"head.weight", "blocks.1.attn.qkv.weight"} <= moved
    assert not any(name.startswith(("blocks.0", "patch_embed", "pos_embed", "cls_token")) for name in moved)


def test_label_smoothing_raises_the_loss_of_confident_outputs(data):
    logits = torch.zeros(1, 10)
    logits[0, data.train.labels[0]] = 20.0
    with distillation.method("none", tiny(), CLASSIFICATION, RECIPE, None) as plain:
        for smoothing, expected in ((0.0, 0.0), (0.1, 20 * 0.09)):
            training = task(data, recipe=dataclasses.replace(RECIPE, label_smoothing=smoothing))
            batch = fine_tune._batch(training, None, np.arange(1), "fp32")
            assert fine_tune._loss(plain, logits, batch, training).item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_precision_learns_and_is_reported(data, monkeypatch, precision):
    monkeypatch.setattr(fine_tune, "training_precision", lambda model, device: precision)
    report = fine_tune.fine_tune(tiny(), task(data, epochs=2))
    assert report.precision == precision
    assert report.loss_last < report.loss_first


@pytest.mark.long
def test_gradients_that_overflow_fp16_skip_a_step(data, monkeypatch):
    monkeypatch.setattr(fine_tune, "training_precision", lambda model, device: "fp16")
    huge = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    monkeypatch.setattr(fine_tune, "gradient_scaler", lambda device, precision: huge)
    report = fine_tune.fine_tune(tiny(), task(data, epochs=8))
    assert huge.get_scale() < 2.0**40
    assert report.loss_last < report.loss_first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_and_predicts(data):
    model = tiny()
    report = fine_tune.fine_tune(model, task(data, epochs=4, device="cuda"))
    assert report.precision in ("bf16", "fp16")
    assert report.loss_last < report.loss_first
    assert inference.predict_logits(
        model, data.validation.images[:50], ImageSize.square(28), Preprocessing(data.mean, data.std)
    ).shape == (50, 10)


LEARNED = np.arange(0, 20_000, 2)


def test_all_rungs_read_the_same_pool():
    pool = fine_tune.training_pool(LEARNED, RECIPE)
    assert len(pool) == 768
    assert (np.diff(pool) > 0).all()
    assert set(pool.tolist()) <= set(LEARNED.tolist())
    assert (pool == fine_tune.training_pool(LEARNED, RECIPE)).all()
    first, second = fine_tune.training_order(768, RECIPE, 0, 1), fine_tune.training_order(768, RECIPE, 1, 2)
    assert len(first) == 256
    assert sorted([*first, *second]) == list(range(768))


@given(
    pool=st.integers(1, 50), per_epoch=st.integers(1, 60),
    before=st.integers(0, 5), epochs=st.integers(1, 5), seed=st.integers(0, 9),
)  # fmt: skip
def test_rungs_continue_one_stream(pool, per_epoch, before, epochs, seed):
    recipe = dataclasses.replace(RECIPE, images_per_epoch=per_epoch, seed=seed)
    whole = fine_tune.training_order(pool, recipe, 0, before + epochs)
    parts = [fine_tune.training_order(pool, recipe, 0, before)] if before else []
    parts.append(fine_tune.training_order(pool, recipe, before, epochs))
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert len(whole) == min(pool, per_epoch) * (before + epochs)
    counts = np.bincount(whole, minlength=pool)
    assert counts.max() - counts.min() <= 1


SMALLEST = {
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "fastvit": "fastvit_t8",
    "levit": "levit_128s",
    "mobilevit": "mobilevit_xxs",
    "repvit": "repvit_m0_9",
    "swin": "swin_tiny_patch4_window7_224",
    "swinv2": "swinv2_tiny_window8_256",
    "tiny_vit": "tiny_vit_5m_224",
    "vit": "deit_tiny_patch16_224",
}
"""A small model of each family."""


@pytest.mark.long
def test_every_family_trains_at_two_resolutions():
    """On images as they come from files. With channels_last strides FastViT corrupts the heap at 96 pixels."""
    assert SMALLEST.keys() == set(backbones.FAMILIES.names())
    names = [f"{name}@{pixels}" for name in SMALLEST.values() for pixels in (64, 96)]
    command = [sys.executable, "-X", "faulthandler", os.path.join(SUPPORT, "train_models.py"), *names]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout.split("\n")) == (0, [*(f"{name} 2 steps" for name in names), ""]), (
        ended.stderr
    )
