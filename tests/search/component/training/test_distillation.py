"""Each method on the committed data with tiny models, and the losses against plain formulas."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from support.marks import long
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, load
from vitsearch.errors import StageError
from vitsearch.models.classifier import ATTRIBUTE, Classifier
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.classification.divergence import divergence
from vitsearch.training import distillation, fine_tune, inference

RECIPE = Recipe(
    rungs=(0, 1), images_per_epoch=256, batch_size=32, lr=2e-3, weight_decay=0.05, warmup_steps=4,
    distillation_weight=1.0, temperature=2.0, seed=0,
)  # fmt: skip
ROWS = 256


@pytest.fixture(scope="module")
def data():
    return load(DataSpec("builtin:fashion-mnist-14k"))


def tiny(name="vit_tiny_patch16_224", width=32) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    return timm.create_model(name, embed_dim=width, depth=2, num_heads=2, **sizes)


def distilled() -> torch.nn.Module:
    return tiny("deit_tiny_distilled_patch16_224")


@pytest.fixture(scope="module")
def teacher(data):
    """A trained model that is wider than its students."""
    model = tiny(width=48)
    recipe = dataclasses.replace(RECIPE, distillation_weight=0.0)
    fine_tune.fine_tune(model, task(data, recipe=recipe, epochs=8))
    return model


@pytest.fixture(scope="module")
def teacher_outputs(data, teacher):
    seen = (teacher, data.train.images[:ROWS], ImageSize.square(28), Preprocessing(data.mean, data.std))
    return {"teacher_outputs": inference.predict_logits(*seen), "teacher_features": inference.predict_features(*seen)}


def task(data, **values) -> fine_tune.TrainingSpec:
    images, labels = data.train.images[:ROWS], data.train.labels[:ROWS]
    return fine_tune.TrainingSpec(
        images,
        labels,
        ImageSize.square(28),
        Preprocessing(data.mean, data.std),
        **{"recipe": RECIPE, "epochs": 1.0} | values,
    )


def wrong(changed: fine_tune.TrainingSpec) -> fine_tune.TrainingSpec:
    """The same task with wrong labels."""
    return dataclasses.replace(changed, labels=(changed.labels + 1) % 10)


def targets() -> distillation.TargetBatch:
    drawn = np.random.default_rng(0)
    return distillation.TargetBatch(*(torch.tensor(drawn.normal(size=(8, n)), dtype=torch.float32) for n in (10, 48)))


def batch() -> torch.Tensor:
    return torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["logits", "token", *long("feature", "token_hard")])
def test_every_method_follows_the_teacher_not_the_labels(data, teacher_outputs, name):
    student = distilled()
    fine_tune.fine_tune(student, wrong(task(data, distillation=name, epochs=8, **teacher_outputs)))
    logits = inference.predict_logits(
        student, data.train.images[:ROWS], ImageSize.square(28), Preprocessing(data.mean, data.std)
    )
    agreement = inference.accuracy(logits, teacher_outputs["teacher_outputs"].argmax(1))
    assert agreement > inference.accuracy(logits, (data.train.labels[:ROWS] + 1) % 10) + 0.2


def test_features_are_the_inputs_of_the_classifier(data, teacher, teacher_outputs):
    assert teacher_outputs["teacher_features"].shape == (ROWS, 48)
    assert distillation.feature_width(teacher) == 48
    logits = teacher.head(torch.tensor(teacher_outputs["teacher_features"])).detach().numpy()
    np.testing.assert_allclose(logits, teacher_outputs["teacher_outputs"], atol=1e-4)


def test_a_hint_brings_the_features_nearer(data, teacher_outputs):
    students = {name: tiny(width=48) for name in ("logits", "feature")}
    distances = {}
    for name, student in students.items():
        fine_tune.fine_tune(student, task(data, distillation=name, epochs=4, **teacher_outputs))
        features = inference.predict_features(
            student, data.train.images[:ROWS], ImageSize.square(28), Preprocessing(data.mean, data.std)
        )
        distances[name] = float(np.square(features - teacher_outputs["teacher_features"]).mean())
    assert distances["feature"] < 0.75 * distances["logits"]


def test_the_hint_is_in_units_of_the_teachers_variance():
    model, seen = tiny(width=48), targets()
    with (
        distillation.method("feature", model, CLASSIFICATION, RECIPE, 48) as method,
        distillation.features_of(model) as features,
    ):
        outputs = model(batch())
        distance = method.distance(outputs, seen)
        plain = divergence(outputs, seen.outputs, 2.0)
        assert method.parameters() == []
        hint = functional.mse_loss(features(), seen.features) / seen.features.var(dim=0).mean()
    assert distance.item() == pytest.approx((plain + hint).item(), rel=1e-5)


def test_different_widths_are_bridged_by_a_trained_map():
    model = tiny()
    with distillation.method("feature", model, CLASSIFICATION, RECIPE, 48) as method:
        method.distance(model(batch()), targets()).backward()
        (bridge,) = method.parameters()
    assert bridge.shape == (48, 32)
    assert bool(bridge.grad.any())


@pytest.mark.parametrize("name", ["token", "token_hard"])
def test_the_class_head_learns_from_labels_the_other_from_the_teacher(name):
    model, seen = distilled().train(), targets()
    with distillation.method(name, model, CLASSIFICATION, RECIPE, None) as method:
        outputs = model(batch())
        assert torch.equal(method.outputs(outputs), outputs[0])
        distance = method.distance(outputs, seen)
    hard = functional.cross_entropy(outputs[1], seen.outputs.argmax(1))
    expected = hard if name == "token_hard" else divergence(outputs[1], seen.outputs, 2.0)
    assert distance.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_distilled_model_returns_one_tensor_again_afterwards():
    model = distilled().train()
    with distillation.method("token", model, CLASSIFICATION, RECIPE, None):
        assert len(model(batch())) == 2
    assert model(batch()).shape == (8, 10)


def test_a_model_without_a_distillation_head_is_refused(data, teacher_outputs):
    with pytest.raises(StageError, match="VisionTransformer has no distillation head"):
        fine_tune.fine_tune(tiny(), task(data, distillation="token", **teacher_outputs))


def test_a_live_teacher_gives_the_same_hints_as_its_file(data, teacher, teacher_outputs, monkeypatch):
    monkeypatch.setattr(fine_tune, "training_precision", lambda model, device: "fp32")
    students = [tiny(), tiny()]
    live = fine_tune.LiveTeacher(copy.deepcopy(teacher), ImageSize.square(28), Preprocessing(data.mean, data.std))
    fine_tune.fine_tune(students[0], task(data, distillation="feature", **teacher_outputs))
    fine_tune.fine_tune(students[1], task(data, distillation="feature", live_teacher=live))
    for name, value in students[0].state_dict().items():
        torch.testing.assert_close(students[1].state_dict()[name], value, atol=1e-4, rtol=1e-3)


def test_a_live_teacher_whose_logits_are_no_layers_output_teaches_its_logits(data):
    def scaled():
        model = torch.nn.Sequential(tiny(), torch.nn.LogSoftmax(1))
        setattr(model, ATTRIBUTE, Classifier(None, 10))
        return model

    live = fine_tune.LiveTeacher(scaled(), ImageSize.square(28), Preprocessing(data.mean, data.std))
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(flip=True))
    report = fine_tune.fine_tune(scaled(), task(data, recipe=recipe, live_teacher=live))
    assert report.steps == 8
