"""The conformance test of tasks. Subclass `TaskTests`, name your task, and run pytest.

class TestMine(TaskTests):
    task = MINE
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import torch

from vitsearch.core.metrics import METRICS, declare
from vitsearch.tasks import Judged, Task, TrainingTargets, Truth

if TYPE_CHECKING:
    from vitsearch.tasks.base import Floats, Labels

IMAGES = 24
MAP = (4, 6)
"""Height and width of the outputs of a task with masks, which are twice as large."""
PNG = b"\x89PNG"
"""The first bytes of such a file."""
WIDTH = 8
"""Outputs of a model of a task with a reference."""


@pytest.mark.filterwarnings("error:Using a target size")
class TaskTests:
    """Holds for every task.

    Attributes:
        task: The task.
        class_names: Those of the data that the test makes.
    """

    task: ClassVar[Task]
    class_names: ClassVar[tuple[str, ...]] = ("a", "b", "c")

    def make_outputs(self, seed: int) -> Floats:
        """Make outputs of all images. Override it for outputs of another shape.

        Args:
            seed: Of the random numbers.

        Returns:
            float32 (IMAGES, ...).
        """
        width = WIDTH if self.task.has_reference else self.task.outputs(len(self.class_names))
        size = (IMAGES, width, *MAP) if self.task.labels == "masks" else (IMAGES, width)
        outputs: Floats = np.random.default_rng(seed).normal(size=size).astype(np.float32)
        return outputs

    def make_truth(self) -> Truth:
        """Make what outputs are judged by.

        Returns:
            Labels and a reference, as the task has them.
        """
        labels: Labels | None = None
        if self.task.labels == "masks":
            pixels = np.random.default_rng(8).integers(0, len(self.class_names), (IMAGES, 2 * MAP[0], 2 * MAP[1]))
            labels = pixels.astype(np.uint8)
        elif self.task.labels != "unused":
            labels = (np.arange(IMAGES) % len(self.class_names)).astype(np.int64)
        return Truth(labels, self.class_names, self.make_outputs(9) if self.task.has_reference else None)

    def make_targets(self) -> TrainingTargets:
        """Make what the outputs of a batch in training are compared with.

        Returns:
            Labels, as the task has them.
        """
        labels = self.make_truth().labels
        return TrainingTargets(None if labels is None else torch.from_numpy(labels))

    # ---- metrics

    def test_metrics_are_qualities_that_no_other_metric_is_called(self) -> None:
        assert self.task.metrics
        assert all(metric.is_quality for metric in self.task.metrics)
        assert len({metric.name for metric in self.task.metrics}) == len(self.task.metrics)
        declare(self.task.metrics)

    def test_every_metric_has_a_value_or_a_reason(self) -> None:
        figures = self.judged(self.make_outputs(0), self.make_truth()).figures
        names = {metric.name for metric in self.task.metrics}
        assert set(figures) == names, f"judge gives {sorted(figures)}, and the task has the metrics {sorted(names)}"
        for name, figure in figures.items():
            assert figure.value is not None or figure.reason, name
            assert figure.value is None or np.isfinite(figure.value), name

    def test_an_interval_has_its_value_inside(self) -> None:
        for figure in self.judged(self.make_outputs(0), self.make_truth()).figures.values():
            if figure.value is not None and figure.low is not None and figure.high is not None:
                assert figure.low <= figure.value <= figure.high

    def test_the_order_of_the_images_does_not_matter(self) -> None:
        outputs, truth = self.make_outputs(0), self.make_truth()
        order = np.random.default_rng(1).permutation(IMAGES)
        moved = Truth(
            None if truth.labels is None else truth.labels[order],
            truth.class_names,
            None if truth.reference is None else truth.reference[order],
        )
        assert self.judged(outputs[order], moved).values == pytest.approx(self.judged(outputs, truth).values)

    def test_what_is_judged_is_left_as_it_is(self) -> None:
        outputs, others, truth = self.make_outputs(0), self.make_outputs(1), self.make_truth()
        arrays = [array for array in (outputs, others, truth.labels, truth.reference) if array is not None]
        before = [array.copy() for array in arrays]
        self.judged(outputs, truth)
        self.task.pair(outputs, truth)
        self.task.diverge(outputs, others)
        assert all(np.array_equal(array, kept) for array, kept in zip(arrays, before, strict=True))

    def test_the_tally_is_json_and_gives_the_warnings(self) -> None:
        tally = self.judged(self.make_outputs(0), self.make_truth()).tally
        assert json.loads(json.dumps(tally)) == tally
        assert all(isinstance(text, str) for text in self.task.warnings({"a model": tally}, {}, self.class_names))

    def test_a_model_is_drawn_on_the_images_that_are_drawn(self) -> None:
        truth = self.make_truth()
        if truth.labels is None:
            pytest.skip(f"task {self.task.kind} needs no labels")
        side = truth.labels.shape[1:] or (8, 8)
        samples = self.task.samples(np.zeros((IMAGES, *side, 1), np.uint8), truth.labels)
        pictures = self.task.pictures(self.judged(self.make_outputs(0), truth).tally)
        assert len(pictures) == len(samples), "a picture of each image that is shown"
        assert all(picture.startswith(PNG) for picture in (*pictures, *(each for pair in samples for each in pair)))

    def test_reduced_outputs_have_the_same_first_metric(self) -> None:
        if self.task.reduction == "none":
            pytest.skip(f"task {self.task.kind} has no reduction: devices send all outputs back")
        outputs, truth = self.make_outputs(0), self.make_truth()
        reduced = outputs.argmax(1).astype(np.uint16)
        first = self.task.metrics[0].name
        assert self.judged(reduced, truth).values[first] == self.judged(outputs, truth).values[first]

    def test_the_first_metric_of_each_image_says_which_model_is_better(self) -> None:
        values = self.task.pair(self.make_outputs(0), self.make_truth())
        assert values.shape == (IMAGES,), f"one value for each of {IMAGES} images, not {values.shape}"
        if self.task.metrics[0].is_count:
            judged = self.judged(self.make_outputs(0), self.make_truth())
            assert values.mean() == pytest.approx(judged.values[self.task.metrics[0].name])

    def judged(self, outputs: Floats, truth: Truth) -> Judged:
        return self.task.judge(outputs, truth)

    # ---- divergence

    def test_a_model_does_not_diverge_from_itself(self) -> None:
        outputs = self.make_outputs(0)
        assert np.abs(self.task.diverge(outputs, outputs.copy())).max() < min(1e-6, self.task.divergence.small)

    def test_other_outputs_diverge_image_by_image(self) -> None:
        divergences = self.task.diverge(self.make_outputs(0), self.make_outputs(1))
        assert divergences.shape == (IMAGES,), f"one value for each of {IMAGES} images, not {divergences.shape}"
        assert np.isfinite(divergences).all()
        assert divergences.mean() > self.task.divergence.small

    # ---- training

    def test_the_loss_of_labels_has_a_gradient(self) -> None:
        loss = self.task.loss(outputs := self._trained(), self.make_targets())
        if loss is None:
            assert self.task.has_reference, "a task that learns from no labels needs a reference"
            return
        self._assert_gradient(loss, outputs)

    def test_the_loss_takes_the_labels_of_mixed_images(self) -> None:
        labels = self.make_targets().labels
        if labels is None or self.task.loss(self._trained(), self.make_targets()) is None:
            pytest.skip(f"task {self.task.kind} has no loss of labels")
        if self.task.labels == "masks":
            pytest.skip(f"task {self.task.kind} has masks, which are not mixed")
        shares = torch.nn.functional.one_hot(labels, len(self.class_names)).float()
        mixed = self.task.loss(outputs := self._trained(), TrainingTargets(0.7 * shares + 0.3 * shares.roll(1, 0)))
        assert mixed is not None
        self._assert_gradient(mixed, outputs)

    def test_the_distance_to_a_teacher_has_a_gradient_and_is_least_at_its_outputs(self) -> None:
        teacher = torch.from_numpy(self.make_outputs(1))
        distance = self.task.distance(outputs := self._trained(), teacher, 2.0)
        self._assert_gradient(distance, outputs)
        assert self.task.distance(teacher.clone(), teacher, 2.0) < distance.detach()

    def test_the_importance_has_a_gradient(self) -> None:
        self._assert_gradient(self.task.importance(outputs := self._trained(), self.make_targets()), outputs)

    def test_a_batch_in_training_has_a_figure(self) -> None:
        teacher = torch.from_numpy(self.make_outputs(1))
        figure = self.task.batch_figure(torch.from_numpy(self.make_outputs(0)), self.make_targets(), teacher)
        assert isinstance(figure, float)
        assert np.isfinite(figure)

    def test_no_other_task_has_its_metrics(self) -> None:
        for metric in self.task.metrics:
            assert METRICS.get(metric.name, metric) == metric

    def _trained(self) -> torch.Tensor:
        return torch.from_numpy(self.make_outputs(0)).requires_grad_()

    def _assert_gradient(self, value: torch.Tensor, outputs: torch.Tensor) -> None:
        assert value.shape == (), f"a scalar, not {tuple(value.shape)}"
        (gradient,) = torch.autograd.grad(value, outputs)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0
