"""The sections of a space file as frozen values. The text under each field is its documentation,
for readers of this file and for editors through the JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from vitsearch.space.kinds import (
    Either,
    Int,
    Number,
    Text,
    agent_url,
    certificate_digest,
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
Pixels = Annotated[Int, Field(ge=8, le=4096)]
Fingerprint = Annotated[Text, AfterValidator(certificate_digest)]
_AllImages = Annotated[Literal["all"], AfterValidator(lambda _: None)]


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

    source: Literal["builtin:fashion-mnist-14k", "builtin:fashion-mnist", "folder"]
    """folder: images in one folder per class under 'root'."""
    root: Text | None = None
    """The folder of the images; for builtin:fashion-mnist, where to look for its files."""
    image_size: Pixels | None = None
    """Images of a folder are stored at this size (default: the largest resolution of the space)."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour (default: as the images are)."""
    validation_share: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Share of a folder's training images that the search judges by, where it has no own split."""
    seed: Seed = 0
    """Decides which images those are."""


class FineTune(Section):
    """How a promoted plan is trained."""

    rungs: Annotated[tuple[Int, ...], AfterValidator(rising_rungs)] = (0, 1)
    """Epochs after which accuracy is judged, rising from 0 (a closed-form refit without training)."""
    images_per_epoch: Count = 2048
    """Training images that one epoch sees."""
    batch_size: Count = 64
    lr: Positive = 1e-4
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.05
    warmup_steps: Annotated[Int, Field(ge=0)] = 8
    distillation_weight: Annotated[Number, Field(ge=0, le=1)] = 0.5
    """Share of the distillation loss; the rest is cross-entropy with the labels."""
    temperature: Positive = 2.0
    """Softens both sides of the distillation loss."""


class Base(Section):
    """Training of a backbone whose classifier is new for these classes."""

    epochs: Count = 3
    lr: Positive = 5e-4
    batch_size: Count = 64
    images_per_epoch: Annotated[
        int | None, Either(word_or("<number>"), {"<number>": Count | None, "<word>": _AllImages})
    ] = None
    """A number, or all."""


class Teacher(Section):
    """A model to distil from."""

    backbone: Text
    weights: Weights = ""
    """builtin, hub, none or file:PATH (default: builtin where there is one, else hub)."""

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, data: Any) -> Any:
        return with_weights(data, "backbone")


class Signal(Section):
    """Judging a pruned model without training it."""

    calibration_images: Count = 256
    """Images that importance and the closed-form refit are computed on."""
    validation_images: Count = 500
    """Images on which the pruned model is compared with its base."""


class Task(Section):
    """What the models learn, and how."""

    data: Data
    fine_tune: FineTune = FineTune()
    base: Base = Base()
    teacher: Annotated[
        Literal["none", "self"] | Teacher,
        Either(word_or("<mapping>"), {"<word>": Literal["none", "self"], "<mapping>": Teacher}),
    ] = "self"
    """self: each backbone's own unpruned base; none: no distillation; or a model."""
    signal: Signal = Signal()


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


class Device(Section):
    """A board with a running agent."""

    url: Annotated[Text, AfterValidator(agent_url)]
    """Address of the agent, such as https://nano.local:8470."""
    token: Annotated[
        str | None, BeforeValidator(token_name), WithJsonSchema({"type": "string", "pattern": "^env:"})
    ] = None
    """env:NAME, the environment variable that holds the agent's token."""
    fingerprint: Fingerprint | None = None
    """Digest of the agent's certificate, as 'vitsearch-agent serve' prints it."""


class Search(Section):
    """How long and how the search runs."""

    trials: Count = 12
    """Plans that the study trains, in all its runs together."""
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
    gpus: Annotated[Number, Field(ge=0, le=64)] = 0.0
    """GPUs for each; 0.5 lets two share one."""
