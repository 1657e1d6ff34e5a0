"""The section ``task`` of a space file: the data, and how models are trained on it.

The text under each field documents the key, for readers of this module and, through the JSON Schema, for editors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, ValidationInfo, WithJsonSchema, field_validator, model_validator

from vitsearch.core import plan
from vitsearch.core.data_sources import SOURCE_PATTERN, SOURCES
from vitsearch.space.kinds import Either, Int, Number, Text, data_source, mixing_alpha, rising_rungs, word_or
from vitsearch.space.section_base import Count, Pixels, Positive, Section, Seed, Share, Weights, with_weights

_Alpha = Annotated[Number, Field(ge=0, le=10), AfterValidator(mixing_alpha)]
_AllImages = Annotated[Literal["all"], AfterValidator(lambda _: None)]
_SOURCE = WithJsonSchema(
    {
        "type": "string",
        "anyOf": [{"enum": list(SOURCES)}, {"pattern": SOURCE_PATTERN, "examples": ["hfds/NAME"]}],
    }
)


class Data(Section):
    """The labelled images."""

    source: Annotated[Text, AfterValidator(data_source), _SOURCE]
    """folder: images in one folder per class under 'root'; tar: the same in .tar files; torch/NAME, hfds/NAME
    and wds/NAME: every data set that timm's create_dataset reads."""
    root: Text | None = None
    """The folder of the images or of the set; for builtin:fashion-mnist, where to look for its files;
    for hfds, the cache of Hugging Face."""
    image_size: Pixels | None = None
    """Images are stored at this size (default: the largest resolution of the space)."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour (default: as the images are)."""
    validation_share: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that the search judges by, where the data has no own split."""
    seed: Seed = 0
    """Decides which images those are."""
    train_split: Text | None = None
    """Name of the split to train on (default: train)."""
    validation_split: Text | None = None
    """Name of the split that the search judges by (default: the set's own, else a share of the training images)."""
    input_key: Text | None = None
    """hfds: the column of the images (default: image); wds: endings of the images, such as jpg;png."""
    target_key: Text | None = None
    """hfds: the column of the labels (default: label); wds: their key in the json files (default: the cls files)."""
    class_names: tuple[Text, ...] | None = None
    """Names of the classes 0, 1, ... where a set has only numbers."""
    download: Annotated[bool, Strict()] = False
    """Fetch a set of torch or hfds that is not on this machine."""


class Augmentation(Section):
    """Random views of training images. A teacher is then asked about each view, which costs its time."""

    flip: Share = 0.0
    """Chance of a mirror image; not for letters, or parts that differ by side."""
    crop: Annotated[Number, Field(ge=0.05, le=1)] = 1.0
    """Smallest share of the area that a random crop keeps; 1 crops nothing."""
    randaugment: Annotated[Int, Field(ge=0, le=30)] = 0
    """Magnitude of two random changes of colour or shape (RandAugment), of 30; 0 for none."""
    mixup: _Alpha = 0.0
    """Alpha of mixup: images and labels are blended in pairs; 0 for off."""
    cutmix: _Alpha = 0.0
    """Alpha of CutMix: a box of one image is put into another; 0 for off."""


AUGMENTATIONS = {"none": plan.Augmentation(), "light": plan.Augmentation(flip=0.5, crop=0.7)}


class Training(Section):
    """What every training has."""

    batch_size: Count = 64
    lr: Positive
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.05
    warmup_steps: Annotated[Int, Field(ge=0)] = 8
    augmentation: Annotated[
        Literal["none", "light"] | Augmentation,
        Either(word_or("<mapping>"), {"<word>": Literal["none", "light"], "<mapping>": Augmentation}),
    ] = "none"
    """none (best below some ten epochs), light (flip 0.5, crop 0.7), or what is named."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all classes."""
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate for each layer away from the classifier, such as 0.75; 1 for off."""
    frozen_blocks: Annotated[Int, Field(ge=0, le=1000)] = 0
    """The stem and so many first blocks keep their weights; 0 freezes nothing."""
    gradient_checkpointing: Annotated[bool, Strict()] = False
    """Less memory for about a third more time."""

    def to_recipe(self, rungs: tuple[int, ...], images_per_epoch: int, seed: int) -> plan.Recipe:
        """This training from labels alone."""
        return plan.Recipe(
            rungs=rungs,
            images_per_epoch=images_per_epoch,
            batch_size=self.batch_size,
            lr=self.lr,
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
        )


def _augmentation(value: str | Augmentation) -> plan.Augmentation:
    return AUGMENTATIONS[value] if isinstance(value, str) else plan.Augmentation(**value.model_dump())


class FineTune(Training):
    """How a promoted plan is trained."""

    rungs: Annotated[tuple[Int, ...], AfterValidator(rising_rungs)] = (0, 1)
    """Epochs after which accuracy is judged, rising from 0 (a closed-form refit without training)."""
    images_per_epoch: Count = 2048
    """Training images that one epoch sees."""
    lr: Positive = 1e-4
    """Peak learning rate of AdamW."""
    distillation_weight: Share = 0.5
    """Share of the distillation loss; the rest is cross-entropy with the labels."""
    temperature: Positive = 2.0
    """Softens both sides of the distillation loss."""

    def recipe(self, seed: int) -> plan.Recipe:
        alone = self.to_recipe(self.rungs, self.images_per_epoch, seed)
        return replace(alone, distillation_weight=self.distillation_weight, temperature=self.temperature)


class QuantizationAware(Section):
    """Training on with the rounding of int8 in place, behind the last rung, for the precision int8_qat."""

    epochs_share: Annotated[Number, Field(gt=0, le=10)] = plan.QuantizationAware.epochs_share
    """Its epochs, as a share of the last rung's."""
    lr_share: Annotated[Number, Field(gt=0, le=100)] = plan.QuantizationAware.lr_share
    """Its peak learning rate, as a share of fine_tune.lr."""

    def settings(self) -> plan.QuantizationAware:
        return plan.QuantizationAware(self.epochs_share, self.lr_share)


class Base(Training):
    """Training of a backbone whose classifier is new for these classes, from labels alone."""

    epochs: Count = 3
    lr: Positive = 5e-4
    """Peak learning rate of AdamW."""
    images_per_epoch: Annotated[
        int | None, Either(word_or("<number>"), {"<number>": Count | None, "<word>": _AllImages})
    ] = None
    """A number, or all."""

    def recipe(self, seed: int) -> plan.Recipe:
        """0 images an epoch: all of them."""
        return self.to_recipe((0, self.epochs), self.images_per_epoch or 0, seed)


class Teacher(Base):
    """A model to distil from. What is left out of its training is as in task.base."""

    backbone: Text
    weights: Weights = ""
    """builtin, hub, none or file:PATH (default: builtin where there is one, else hub)."""

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, data: Any) -> Any:
        return with_weights(data, "backbone")

    def filled(self, base: Base) -> Teacher:
        """What the file does not say of its training, as ``base`` has it."""
        left_out = Base.model_fields.keys() - self.model_fields_set
        return self.model_copy(update={name: getattr(base, name) for name in left_out})


class Proxy(Section):
    """DeviceAccuracy a compressed model without training it."""

    calibration_images: Count = 256
    """Images that importance and the closed-form refit are computed on."""
    quantization_images: Count = 32
    """Training images that the ranges of static int8 are found on."""
    validation_images: Count = 500
    """Images on which the pruned model is compared with its base."""


class Task(Section):
    """What the models learn, and how."""

    data: Data
    fine_tune: FineTune = FineTune()
    quantization_aware: QuantizationAware = QuantizationAware()
    base: Base = Base()
    teacher: Annotated[
        Literal["none", "self"] | Teacher,
        Either(word_or("<mapping>"), {"<word>": Literal["none", "self"], "<mapping>": Teacher}),
    ] = "self"
    """self: each backbone's own unpruned base; none: no distillation; or a model."""
    proxy: Proxy = Proxy()

    @field_validator("teacher")
    @classmethod
    def _filled_teacher(cls, value: str | Teacher, info: ValidationInfo) -> str | Teacher:
        return value.filled(info.data["base"]) if isinstance(value, Teacher) and "base" in info.data else value
