"""The section `task` of a space file: the data, and how models are trained on it.

The text under each field documents the key, for readers of this module and, through the JSON Schema, for editors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    Strict,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from vitsearch.core import plan
from vitsearch.core.class_weights import ClassWeights
from vitsearch.core.data_sources import SOURCE_PATTERN, SOURCES
from vitsearch.core.tuning import tuning_of
from vitsearch.errors import VitsearchError
from vitsearch.space.section_base import Count, Positive, Section, Seed, Share, Size, StartingWeights, with_weights
from vitsearch.space.value_types import (
    Either,
    Int,
    Number,
    Text,
    data_source,
    group_rule,
    mixing_alpha,
    problem,
    rising_rungs,
    word_or,
)
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.recorded import TaskFacts

_Alpha = Annotated[Number, Field(ge=0, le=10), AfterValidator(mixing_alpha)]
Rate = Annotated[
    float | Literal["auto"], Either(word_or("<number>"), {"<number>": Positive, "<word>": Literal["auto"]})
]
_Weights = Annotated[dict[Text, Positive], Field(min_length=1)]
_AllImages = Annotated[Literal["all"], AfterValidator(lambda _: None)]
_SOURCE = WithJsonSchema(
    {
        "type": "string",
        "anyOf": [{"enum": list(SOURCES)}, {"pattern": SOURCE_PATTERN, "examples": ["hfds/NAME"]}],
    }
)


class Data(Section):
    """The labelled images to learn from."""

    source: Annotated[Text, AfterValidator(data_source), _SOURCE]
    """folder: images under 'root', one folder for each class; tar: the same in .tar files; torch/NAME, hfds/NAME and
    wds/NAME: every data set that timm's create_dataset reads."""
    root: Text | None = None
    """The folder of the images or of the data set; for builtin:fashion-mnist, where to search for its files; for hfds,
    the cache of Hugging Face."""
    image_size: Size | None = None
    """Size of the stored images in pixels: a side, or [height, width] (default: what holds every resolution of the
    space)."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour (default: as the images are)."""
    validation_share: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Share of the training images to use for validation, when the data has no validation split."""
    seed: Seed = 0
    """Seed for the choice of those images."""
    train_split: Text | None = None
    """Name of the split, or of the folder below 'root', to train on (default: train). In a folder that is named here,
    every folder is a class, whatever it is called; '.' is 'root' itself."""
    validation_split: Text | None = None
    """Name of the split or folder to validate on (default: the data set's own; without one, or with none, a share of
    the training images)."""
    test_split: Text | None = None
    """Name of the split or folder of the test images, which the search never uses (default: test; none for no test
    images)."""
    input_key: Text | None = None
    """hfds: column of the images (default: image); wds: endings of the image files, such as jpg;png."""
    target_key: Text | None = None
    """hfds: column of the labels (default: label); wds: key of the label in the json files (default: the cls files)."""
    class_names: tuple[Text, ...] | None = None
    """Names of the classes 0, 1, ... for a data set that has only numbers."""
    holdout_images: Count = 2000
    """Number of training images, at most a tenth of them, on which pruned models are compared with their unpruned
    backbone. No model is trained on them."""
    labels: Literal["folders", "masks", "none"] = "folders"
    """source folder: folders (each folder is a class); masks (ROOT/train/images with ROOT/train/masks, PNG files of the
    same names whose pixels are indices of the classes in ROOT/classes.txt, 255 for none of them; likewise val and
    test); or none: images without classes, in any folders. Without classes a single ONNX network must be the only
    backbone, and accuracy is the agreement with its own fp32 outputs."""
    group: Annotated[Text, AfterValidator(group_rule)] | None = None
    """source folder: a regular expression that finds the group of an image in its path below 'root', such as
    '(part[0-9]+)_': its first group, or all that it matches; or FILE.csv:COLUMN, a column of a CSV file below 'root'
    with a row for each image. Images of one group (part, patient, camera) stay in one split."""
    download: Annotated[bool, Strict()] = False
    """Whether to fetch a torch or hfds data set that is not on this machine."""


class AugmentationSection(Section):
    """Random changes of training images. The teacher then runs on every changed image, which takes time."""

    flip: Share = 0.0
    """Probability of mirroring an image. Do not use it for letters, or for parts whose sides differ."""
    crop: Annotated[Number, Field(ge=0.05, le=1)] = 1.0
    """Smallest share of the area that a random crop keeps; 1 for no cropping."""
    randaugment: Annotated[Int, Field(ge=0, le=30)] = 0
    """Magnitude (0 to 30) of two random changes of colour or shape (RandAugment); 0 for none."""
    mixup: _Alpha = 0.0
    """Alpha of mixup, which blends pairs of images and labels; 0 for off."""
    cutmix: _Alpha = 0.0
    """Alpha of CutMix, which puts a box of one image into another; 0 for off."""


AUGMENTATIONS = {"none": plan.Augmentation(), "light": plan.Augmentation(flip=0.5, crop=0.7)}


class Training(Section):
    """The keys that all trainings share."""

    batch_size: Count = 64
    """Number of images in one step."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.05
    """Weight decay of AdamW."""
    warmup_steps: Annotated[Int, Field(ge=0)] = 8
    """Number of steps in which the learning rate rises to its peak."""
    augmentation: Annotated[
        Literal["none", "light"] | AugmentationSection,
        Either(word_or("<mapping>"), {"<word>": Literal["none", "light"], "<mapping>": AugmentationSection}),
    ] = "none"
    """none (the default; best for fewer than about ten epochs), light (flip 0.5, crop 0.7), or a mapping of changes."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all classes."""
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Factor by which the learning rate falls with each layer away from the classifier, such as 0.75; 1 for off."""
    frozen_blocks: Annotated[Int, Field(ge=0, le=1000)] = 0
    """Number of blocks, from the input, that are frozen together with the stem; 0 trains everything."""
    class_weights: Annotated[
        Literal["none", "balanced"] | dict[Text, Positive],
        Either(word_or("<mapping>"), {"<word>": Literal["none", "balanced"], "<mapping>": _Weights}),
    ] = "none"
    """How much each class counts in the loss of the labels: none (all images equally), balanced (the inverse of its
    number of training images) or weights by class, such as {scratch: 4}; classes that are left out have 1."""
    gradient_checkpointing: Annotated[bool, Strict()] = False
    """Gradient checkpointing: saves memory, takes about a third more time."""

    def to_recipe(self, rungs: tuple[int, ...], images_per_epoch: int, seed: int, lr: float) -> plan.Recipe:
        """The recipe of this training, with labels only and without distillation."""
        return plan.Recipe(
            rungs=rungs,
            images_per_epoch=images_per_epoch,
            batch_size=self.batch_size,
            lr=lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            distillation_weight=0.0,
            temperature=1.0,
            seed=seed,
            augmentation=_augmentation(self.augmentation),
            label_smoothing=self.label_smoothing,
            layer_decay=self.layer_decay,
            frozen_blocks=self.frozen_blocks,
            gradient_checkpointing=self.gradient_checkpointing,
            class_weights=_class_weights(self.class_weights),
        )


def _class_weights(value: str | dict[str, float]) -> ClassWeights:
    return value if isinstance(value, str) else tuple(sorted(value.items()))


def _augmentation(value: str | AugmentationSection) -> plan.Augmentation:
    return AUGMENTATIONS[value] if isinstance(value, str) else plan.Augmentation(**value.model_dump())


class FineTune(Training):
    """Training of a plan that is predicted to improve the front."""

    rungs: Annotated[tuple[Int, ...], AfterValidator(rising_rungs)] = (0, 1)
    """Rungs: numbers of epochs after which a plan's accuracy is measured; 0 is the refit without training. One epoch of
    4,096 images is best in searches of some minutes, three in longer ones (docs/benchmarks/own_table.md)."""
    images_per_epoch: Count = 2048
    """Number of training images in one epoch."""
    lr: Rate = "auto"
    """Peak learning rate of AdamW; auto: what was measured best on the backbone, 1e-4 where nothing was measured."""
    frozen_statistics: Annotated[
        bool | Literal["auto"],
        Either(word_or("<flag>"), {"<flag>": Annotated[bool, Strict()], "<word>": Literal["auto"]}),
    ] = "auto"
    """Whether batch norms keep the statistics that they start with; auto: where that was measured better."""
    distillation_weight: Share = 0.5
    """Share of the distillation loss; the rest is cross-entropy with the labels."""
    temperature: Positive = 2.0
    """Temperature that softens the logits of model and teacher in the distillation loss."""

    def recipe(self, seed: int, backbone: str) -> plan.Recipe:
        """The recipe for `backbone`, with distillation."""
        tuning, frozen = tuning_of(backbone), self.frozen_statistics
        return replace(
            self.to_recipe(self.rungs, self.images_per_epoch, seed, tuning.lr if self.lr == "auto" else self.lr),
            frozen_statistics=tuning.frozen_statistics if frozen == "auto" else frozen,
            distillation_weight=self.distillation_weight,
            temperature=self.temperature,
        )


class QuantizationAwareSection(Section):
    """Quantization-aware training for the precision int8_qat: after the last rung, training continues with simulated
    int8 rounding."""

    epochs_share: Annotated[Number, Field(gt=0, le=10)] = plan.QuantizationAware.epochs_share
    """Number of epochs, as a share of the epochs of the last rung."""
    lr: Rate = "auto"
    """Peak learning rate of AdamW; auto: what was measured best on the backbone, 1e-4 where nothing was measured."""

    def settings(self) -> plan.QuantizationAware:
        return plan.QuantizationAware(self.epochs_share, None if self.lr == "auto" else self.lr)


class BaseSection(Training):
    """Training of every unpruned backbone with a new classifier for the classes of the data; without distillation."""

    epochs: Count = 3
    """Number of epochs."""
    lr: Positive = 5e-4
    """Peak learning rate of AdamW."""
    images_per_epoch: Annotated[
        int | None, Either(word_or("<number>"), {"<number>": Count | None, "<word>": _AllImages})
    ] = None
    """Number of training images in one epoch, or all (default)."""

    def recipe(self, seed: int) -> plan.Recipe:
        """The recipe; 0 images per epoch means all images."""
        return self.to_recipe((0, self.epochs), self.images_per_epoch or 0, seed, self.lr)


class TeacherSection(StartingWeights, BaseSection):
    """A model to distil from. Training keys that are left out are taken from task.base."""

    backbone: Text
    """Name of the teacher's backbone."""

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, data: Any) -> Any:
        return with_weights(data, "backbone")

    def filled(self, base: BaseSection) -> TeacherSection:
        """The teacher with the keys that the file leaves out taken from `base`."""
        left_out = BaseSection.model_fields.keys() - self.model_fields_set
        return self.model_copy(update={name: getattr(base, name) for name in left_out})


class Proxy(Section):
    """The proxy score, which predicts the accuracy of a compressed model without training it."""

    calibration_images: Count = 256
    """Number of training images for importance scores and the closed-form refit."""
    quantization_images: Count = 32
    """Number of training images on which the ranges of static int8 are found: others than those of the refit, where
    there are enough."""


def _facts_json(facts: TaskFacts | None) -> dict[str, Any] | None:
    return None if facts is None else facts.to_json()


class TaskSection(Section):
    """The task that the models learn, and how they are trained."""

    kind: Text = CLASSIFICATION.kind
    """What the models are for: classification (one class for each image), embedding (the likeness of images), or a task
    of your own, as module:attribute."""
    folder: Text | None = None
    """Folder of the module of a task of your own (default: that of the space file)."""
    facts: SkipJsonSchema[Annotated[TaskFacts | None, PlainSerializer(_facts_json)]] = Field(None, alias="(facts)")
    """What a task of one's own was when the space file was loaded; a study keeps it, a file does not have it."""
    data: Data
    fine_tune: FineTune = FineTune()
    quantization_aware: QuantizationAwareSection = QuantizationAwareSection()
    base: BaseSection = BaseSection()
    teacher: Annotated[
        Literal["none", "self"] | TeacherSection,
        Either(word_or("<mapping>"), {"<word>": Literal["none", "self"], "<mapping>": TeacherSection}),
    ] = "self"
    """self: each backbone's own unpruned model, trained as in task.base; none: no distillation; or a mapping that
    describes a model."""
    proxy: Proxy = Proxy()

    @field_validator("facts", mode="before")
    @classmethod
    def _read_facts(cls, value: Any) -> Any:
        try:
            return TaskFacts.from_json(value) if isinstance(value, dict) else value
        except (KeyError, TypeError, ValueError, VitsearchError) as error:
            raise problem(f"the stored facts about the task are damaged: {error!r}") from None

    @field_validator("teacher")
    @classmethod
    def _filled_teacher(cls, value: str | TeacherSection, info: ValidationInfo) -> str | TeacherSection:
        return value.filled(info.data["base"]) if isinstance(value, TeacherSection) and "base" in info.data else value
