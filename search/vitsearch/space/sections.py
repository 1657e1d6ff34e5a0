"""The sections of a space file as frozen values. The text under each field is its documentation,
for readers of this file and for editors through the JSON Schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from vitsearch.core import plan
from vitsearch.core.data_sources import SOURCE_PATTERN, SOURCES
from vitsearch.space.kinds import (
    Either,
    Int,
    Number,
    Text,
    agent_url,
    certificate_digest,
    data_source,
    lasting,
    list_or,
    mixing_alpha,
    problem,
    rising_rungs,
    seconds,
    token_name,
    weights_name,
    word_or,
)

BUILTIN_BASES = ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist")
"""Backbones whose starting weights come with vitsearch; every other one starts from the hub."""

Weights = Annotated[Text, AfterValidator(weights_name)]
Seed = Annotated[Int, Field(ge=0, le=2**32 - 1)]
Count = Annotated[Int, Field(ge=1, le=10**9)]
Positive = Annotated[Number, Field(gt=0)]
Alpha = Annotated[Number, Field(ge=0, le=10), AfterValidator(mixing_alpha)]
Share = Annotated[Number, Field(ge=0, le=1)]
Pixels = Annotated[Int, Field(ge=8, le=4096)]
Fingerprint = Annotated[Text, AfterValidator(certificate_digest)]
_DURATION = WithJsonSchema({"type": ["string", "number"]})
Briefly = Annotated[float, BeforeValidator(lasting(10)), _DURATION]
Long = Annotated[float, BeforeValidator(lasting(60)), _DURATION]
VeryLong = Annotated[float, BeforeValidator(lasting(120)), _DURATION]
Days = Annotated[float, BeforeValidator(lasting(7 * 24 * 60)), _DURATION]
_AllImages = Annotated[Literal["all"], AfterValidator(lambda _: None)]


SOURCE_SCHEMA = {
    "type": "string",
    "anyOf": [{"enum": list(SOURCES)}, {"pattern": SOURCE_PATTERN, "examples": ["hfds/NAME"]}],
}


class Section(BaseModel):
    """Frozen, without unknown keys; a key with nothing behind it counts as left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


def default_weights(backbone: str) -> str:
    return "builtin" if backbone in BUILTIN_BASES else "hub"


def with_weights(data: Any, key: str) -> Any:
    if isinstance(data, dict) and data.get("weights") is None and isinstance(data.get(key), str):
        return data | {"weights": default_weights(data[key])}
    return data


class Data(Section):
    """The labelled images."""

    source: Annotated[Text, AfterValidator(data_source), WithJsonSchema(SOURCE_SCHEMA)]
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
    mixup: Alpha = 0.0
    """Alpha of mixup: images and labels are blended in pairs; 0 for off."""
    cutmix: Alpha = 0.0
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


class Limit(Section):
    """A bound that every shown model keeps, absolute or against the baseline."""

    min: Number | None = None
    """At least this much, for metrics where more is better."""
    max: Positive | None = None
    """At most this much, for metrics where less is better."""
    max_drop: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Accuracy that may be lost against the baseline: 0.02 is two points."""
    max_ratio: Positive | None = None
    """At most this share of the baseline's cost."""
    min_ratio: Positive | None = None
    """At least this many times what the baseline reaches, for metrics where more is better: throughput_ips."""


class Device(Section):
    """A board with a running agent. What is left out was stored under its name by 'vitsearch devices add'."""

    url: Annotated[Text, AfterValidator(agent_url)] | None = None
    """Address of the agent, such as https://nano.local:8470."""
    token: Annotated[
        str | None, BeforeValidator(token_name), WithJsonSchema({"type": "string", "pattern": "^env:"})
    ] = None
    """env:NAME, the environment variable that holds the agent's token."""
    fingerprint: Fingerprint | None = None
    """Digest of the agent's certificate, as 'vitsearch-agent serve' prints it."""
    accuracy_images: Annotated[Int, Field(ge=0, le=10**5)] = 500
    """Validation images that it classifies itself with each model of the front; 0: none."""
    deadline_s: Days = Field(default=900.0, alias="deadline")
    """How long a run with nothing else left to do waits for it while it does not answer, such as 15m."""

    @field_validator("fingerprint")
    @classmethod
    def _of_a_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (info.data.get("url") or "").startswith("http:"):
            raise problem("is that of a certificate, and an http address has none; write https, or leave it out")
        return value


def devices_by_name(names: tuple[str, ...]) -> dict[str, Device]:
    return {name: Device() for name in names}


Devices = Annotated[
    dict[str, Device],
    Either(
        list_or("<mapping>"),
        {
            "<list>": Annotated[tuple[Text, ...], AfterValidator(devices_by_name)],
            "<mapping>": dict[str, Device],
        },
    ),
]


class Measure(Section):
    """How a device measures; phases cost their time for each model that is confirmed."""

    threads: Annotated[Int, Field(ge=1, le=256)] = 1
    """Threads of one inference."""
    throughput_s: Long = Field(default=5.0, alias="throughput")
    """For throughput_ips: as many inferences at a time as the agent has cores, for so long."""
    soak_s: VeryLong = Field(default=300.0, alias="soak")
    """For latency_ms_sustained_p50: load without a pause before it is taken, such as 10m."""
    power_s: Long = Field(default=30.0, alias="power")
    """For energy_mj and power_w: load while the device's meter is read."""
    idle_s: Briefly = Field(default=10.0, alias="idle")
    """For energy_mj and power_w: rest before and after, which the net energy is taken against."""
    start_max_c: Annotated[Number, Field(ge=-40, le=150)] | None = None
    """Degrees Celsius that the device cools down to before each measuring process; none waits for nothing."""
    cooldown_s: Long = Field(default=300.0, alias="cooldown")
    """It waits no longer than this for that; the result is then flagged warm_start."""


class Search(Section):
    """How long and how the search runs."""

    trials: Annotated[Int, Field(ge=0, le=10**9)] = 12
    """Plans that the study trains, in all its runs together; 0 for the baseline and the leaderboard alone."""
    timeout_s: Annotated[float | None, BeforeValidator(seconds), WithJsonSchema({"type": ["string", "number"]})] = (
        Field(default=None, alias="timeout")
    )
    """Wall time of one run: 8h, 30m, seconds, or none."""
    sampler: Literal["auto", "tpe", "nsga2", "random"] = "auto"
    seed: Seed = 0
    candidates: Count = 3
    """Plans that are measured for each one that is trained."""
    margin: Annotated[Number, Field(ge=0, le=1)] = 0.01
    """Added to the best accuracy known when a plan is judged hopeless before it is trained."""
    duplicates_in_a_row: Count = 20
    """After so many in a row that came to a plan that is known, one that nobody asked for is tried."""


class Resources(Section):
    """What trainings may use; a machine that lacks it is told so at the start."""

    trainers: Annotated[
        int | Literal["auto"], Either(word_or("<number>"), {"<number>": Count, "<word>": Literal["auto"]})
    ] = "auto"
    """Trainings at the same time."""
    cpus: Count = 1
    """Cores for each."""
    gpus: Annotated[
        float | Literal["auto"],
        Either(word_or("<number>"), {"<number>": Annotated[Number, Field(ge=0, le=64)], "<word>": Literal["auto"]}),
    ] = "auto"
    """GPUs for each; 0.5 lets two share one, 0 trains on the CPU; auto: those of the machine, shared."""
