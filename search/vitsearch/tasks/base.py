"""The protocol of a task: what a model is for, and how its outputs become a loss, a divergence and figures.

A search, its agent and its reports know no classes: they ask the task of the study. The driver imports a task to know
its metrics, so a module of one imports torch and numpy inside functions only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vitsearch.core.decoding import decoded
from vitsearch.core.figures import Figure
from vitsearch.core.metrics import Metric
from vitsearch.core.pareto import wilson
from vitsearch.errors import StageError, TaskError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Floats = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.int64] | npt.NDArray[np.uint8]

NO_CLASS = -1
"""The class of an image whose outputs are not all finite, among reduced outputs."""
Labelling = Literal["needed", "used", "unused", "masks"]
"""Whether a class index of each image is needed, used where the data has one, or never read; or a class index of each
pixel is needed."""
Reduction = Literal["none", "argmax"]
"""What an agent returns of outputs: all of them, or the index of the largest value along axis 1."""


@dataclass(frozen=True)
class Divergence:
    """What a divergence means.

    Attributes:
        unit: As it is shown, such as `nats`.
        small: Below it a refitted model is confirmed as it is: a fine-tune would move nothing.
        forgotten: At it a model has forgotten all but 1/e of what its base has learned by heart of the holdout.
    """

    unit: str
    small: float
    forgotten: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What the outputs of images are judged by.

    Attributes:
        labels: int64 (images,), the class of each image, or uint8 (images, height, width), masks with the class of each
            pixel; None for data without labels.
        class_names: The names of the classes, by their index.
        reference: float32 (images, ...), what the reference of the study gives for them; None for a task without one.
    """

    labels: Labels | None = None
    class_names: Sequence[str] = ()
    reference: Floats | None = None


@dataclass(frozen=True, eq=False)
class TrainingTargets:
    """What the outputs of a batch in training are compared with; on the device of the outputs.

    Attributes:
        labels: int64 (images,), or float32 (images, classes) of mixed images, or masks, uint8 (images, height, width);
            None for data without labels.
        smoothing: Share of each label that is spread over all classes.
        class_weights: How much each class counts; None for equally.
    """

    labels: torch.Tensor | None = None
    smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Judged:
    """What a task makes of the outputs of one file.

    Attributes:
        figures: Each of its metrics that these outputs give, with its 95 % interval where there is one, or None with a
            reason.
        tally: What else is stored with them, in JSON types, such as confusion counts.
    """

    figures: Mapping[str, Figure]
    tally: Any = field(default=None)

    @property
    def values(self) -> dict[str, float]:
        """The metrics that have a value."""
        return {name: figure.value for name, figure in self.figures.items() if figure.value is not None}

    def refuse_not_finite(self, stage: str) -> None:
        """Refuse figures that no database takes: a task of the user may divide by zero.

        Args:
            stage: The stage that fails.

        Raises:
            StageError: A value or an end of its interval is NaN or infinite.
        """
        for name, figure in self.figures.items():
            for number in (figure.value, figure.low, figure.high):
                if number is not None and not math.isfinite(number):
                    raise StageError(stage, "not_finite", f"the task gives {number} in {name} or its interval")


class Task(Protocol):
    """What a model is for. One value, without state: a subclass with what has no default here, and an instance of it.

    Attributes:
        kind: Its name in `task.kind` of a space file.
        labels: Whether it reads class indices.
        metrics: Its metrics; the first one is shown first, and predicted even where nothing asks for it. Their names
            are those of no other metric (`vitsearch.core.metrics.quality`).
        divergence: What `diverge` gives.
        has_reference: Whether outputs are judged and trained by those of one model of the study, the reference.
        output: The name of the output of its files, such as `logits`.
        gives_map: Whether backbones of vitsearch and timm give outputs for each position of a map a quarter as high and
            wide, not for the whole image. A network of the user's gives what its code says.
        reduction: What an agent returns of the outputs.
    """

    kind: str
    labels: Labelling
    metrics: tuple[Metric, ...]
    divergence: Divergence
    has_reference: bool = False
    output: str = "outputs"
    gives_map: bool = False
    reduction: Reduction = "none"

    def outputs(self, classes: int) -> int:
        """Give the number of outputs of the head. A task with a reference is not asked: its models have its width.

        Args:
            classes: Of the data; 0 without labels.

        Returns:
            The width of the last layer.
        """
        return classes

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor | None:
        """Give the loss of the labels.

        Args:
            outputs: Of a batch in training, (images, ...).
            targets: What they are compared with.

        Returns:
            A scalar, averaged over the batch; None for a task that learns from a reference alone.
        """
        ...

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        """Give the loss against the outputs of a teacher.

        Args:
            outputs: Of a batch in training, (images, ...).
            reference: What the teacher gives for the same images, of the same shape.
            temperature: By which a task with logits divides both.

        Returns:
            A scalar, averaged over the batch.
        """
        ...

    def importance(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """Give a scalar whose gradient says how much the outputs depend on an activation.

        Args:
            outputs: Of a batch, (images, ...).
            targets: What they are compared with.

        Returns:
            By default the sum of the outputs with one random sign each: the mean square of such gradients is that of
            all outputs.
        """
        import torch

        generator = torch.Generator(device="cpu").manual_seed(0)
        signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs.device) * 2.0 - 1.0
        return (outputs * signs).sum()

    def diverge(self, outputs: Floats, reference: Floats) -> npt.NDArray[np.float64]:
        """Give the divergence of the outputs of each image from another model's.

        Args:
            outputs: (images, ...).
            reference: Those of the other model, of the same shape.

        Returns:
            (images,), in the unit of `divergence`: 0 for equal outputs.
        """
        ...

    def judge(self, outputs: Floats, truth: Truth) -> Judged:
        """Make figures of the outputs (images, ...) of a file, or of what `reduction` leaves of them.

        Args:
            outputs: In the order of the images.
            truth: What they are judged by.

        Returns:
            A figure for each metric that can be made of them.
        """
        ...

    def warnings(
        self, named: Mapping[str, Any], others: Mapping[str, Any], class_names: Sequence[str]
    ) -> Iterable[str]:
        """Say what to know before figures are believed.

        Args:
            named: The tallies of models, each by what it is called in a sentence.
            others: Those of further models, by the numbers of their trials, for which one sentence is enough.
            class_names: Of the data.

        Returns:
            Sentences without a full stop; by default none.
        """
        return ()

    def details(self, tally: Any, class_names: Sequence[str]) -> Mapping[str, Any]:
        """Give what a bundle has of a tally in `measurements.json`.

        Args:
            tally: What `judge` keeps of a model.
            class_names: Of the data.

        Returns:
            Names and values in JSON types; by default none.
        """
        return {}

    def samples(self, images: npt.NDArray[np.uint8], labels: Labels) -> Sequence[tuple[bytes, bytes]]:
        """Draw a few images with what is true of them, for the report.

        Args:
            images: uint8 (images, height, width, channels), those of validation.
            labels: Theirs.

        Returns:
            PNG files: an image and its truth each; by default none.
        """
        return ()

    def pictures(self, tally: Any) -> Sequence[bytes]:
        """Draw what a model gives for the images of `samples`.

        Args:
            tally: What `judge` keeps of the model.

        Returns:
            PNG files, in the same order; by default none.
        """
        return ()

    def batch_figure(self, outputs: torch.Tensor, targets: TrainingTargets, reference: torch.Tensor | None) -> float:
        """Give the first metric of a batch in training, roughly, for the people who wait for it.

        Args:
            outputs: (images, ...).
            targets: What they are compared with.
            reference: What the teacher gives for the same images; None without one.

        Returns:
            The figure that `judge` makes by default; not a number without one.
        """
        labels = targets.labels
        if labels is not None and labels.is_floating_point():  # of mixed images
            labels = labels.argmax(1)
        truth = Truth(
            None if labels is None else labels.cpu().numpy(),
            (),
            None if reference is None else reference.detach().float().cpu().numpy(),
        )
        values = self.judge(outputs.detach().float().cpu().numpy(), truth).values
        return values.get(self.metrics[0].name, math.nan)

    def pair(self, outputs: Floats, truth: Truth) -> npt.NDArray[np.float64]:
        """Give the first metric of each image, by which two models are compared on the same images.

        Args:
            outputs: (images, ...).
            truth: What they are judged by.

        Returns:
            (images,): by default what `judge` makes of each image alone, not a number where it makes nothing.
        """
        import numpy as np

        name, values = self.metrics[0].name, []
        for row in range(len(outputs)):
            image = slice(row, row + 1)
            labels = None if truth.labels is None else truth.labels[image]
            reference = None if truth.reference is None else truth.reference[image]
            judged = self.judge(outputs[image], Truth(labels, truth.class_names, reference))
            values.append(judged.values.get(name, math.nan))
        return np.array(values, np.float64)


def why_whole_images(task: Task) -> str | None:
    """Say why models of a task must see whole images.

    Args:
        task: The task.

    Returns:
        The reason; None where they may see the centre alone.
    """
    if task.gives_map:
        return "a map is of the whole image"
    return "masks are of the whole image" if task.labels == "masks" else None


def mean_figure(values: npt.NDArray[Any]) -> Figure:
    """Make a figure of one value for each image.

    Args:
        values: (images,), real numbers.

    Returns:
        Their mean, with the 95 % interval by Student's t; without one for a single image.

    Raises:
        TaskError: It is another shape: (images, 1) minus (images,) is (images, images).
    """
    from vitsearch_agent.verify.metrics import mean_interval

    mean = mean_interval(_of_images(values))
    return Figure(mean.value, mean.low, mean.high)


def share_figure(right: npt.NDArray[Any]) -> Figure:
    """Make a figure of the images that are right.

    Args:
        right: (images,), whether each one is.

    Returns:
        Their share, with the 95 % interval of Wilson.

    Raises:
        TaskError: It is another shape.
    """
    correct, n = int(_of_images(right).astype(bool).sum()), len(right)
    return Figure(correct / n, *wilson(correct, n))


def _of_images(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.ndim != 1 or not len(values):
        raise TaskError(f"a figure is made of one value for each image, (images,), not of {values.shape}")
    return values


@dataclass(frozen=True)
class Tally:
    """What a task keeps of the outputs of one model beside its figures (`Judged.tally`), as it is stored; `where` names
    it in a message."""

    task: Task
    value: Any
    class_names: Sequence[str]
    where: str = "tally"

    def warnings(self, subject: str) -> tuple[str, ...]:
        """Say what to know before the figures of the model are believed.

        Args:
            subject: What the model is called in a sentence.

        Returns:
            Sentences without a full stop.

        Raises:
            Damaged: The task cannot read what is stored.
        """

        def said(value: Any) -> tuple[str, ...]:
            return tuple(self.task.warnings({subject: value}, {}, self.class_names))

        return decoded(said, self.value, self.where)

    def pictures(self) -> Sequence[bytes]:
        """Draw what the model gives for a few images.

        Returns:
            PNG files.

        Raises:
            Damaged: The task cannot read what is stored.
        """
        return decoded(self.task.pictures, self.value, self.where)

    def details(self) -> Mapping[str, Any]:
        """Give what a bundle has of it.

        Returns:
            Names and values in JSON types.

        Raises:
            Damaged: The task cannot read what is stored.
        """
        return decoded(lambda value: dict(self.task.details(value, self.class_names)), self.value, self.where)
