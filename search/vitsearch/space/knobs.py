"""The sections `space` and `baseline` of a space file: what is searched, and what it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from vitsearch.core.image_size import ImageSize
from vitsearch.core.precisions import MOST_BATCH, MOST_STREAMS, MOST_THREADS
from vitsearch.core.preprocessing import OWN
from vitsearch.core.targets import TARGETS, default_runtime, providers
from vitsearch.space.networks import OnnxSection, PythonSection, kind_of_network
from vitsearch.space.section_base import Section, Size, Square, StartingWeights, Weights, default_weights, with_weights
from vitsearch.space.value_types import (
    Choices,
    Either,
    Int,
    Number,
    Ratio,
    Text,
    batch_word,
    decides_alone,
    problem,
    rising_blocks,
)


class BackboneSection(StartingWeights):
    """A backbone and its starting weights."""

    name: Text

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, data: Any) -> Any:
        return with_weights(data, "name")


class Range(Section):
    """The values from low to high in equal steps."""

    low: Ratio
    high: Ratio
    step: Annotated[Number, Field(ge=0.001, le=0.95)]

    def expanded(self) -> tuple[float, ...]:
        if self.high < self.low:
            raise problem(f"high {self.high:g} is below low {self.low:g}")
        count = int((self.high - self.low) / self.step + 1e-6) + 1
        return tuple(round(self.low + index * self.step, 6) for index in range(count))


_Named = Annotated[Text, AfterValidator(lambda name: BackboneSection(name=name, weights=default_weights(name)))]
_KINDS = {"<word>": _Named, "<mapping>": BackboneSection, "<python>": PythonSection, "<onnx>": OnnxSection}
_OneBackbone = Annotated[Any, Either(kind_of_network, _KINDS)]
AnyBackbone = BackboneSection | PythonSection | OnnxSection
Backbones = Annotated[tuple[AnyBackbone, ...], Choices(_OneBackbone, name_of=lambda it: it.name)]
Ratios = Annotated[tuple[float, ...], Choices(Ratio, span=Range)]
_Window = Annotated[Int, Field(ge=1, le=256)]
_Block = Annotated[Int, Field(ge=0, le=255)]
_Positions = Annotated[tuple[_Block, ...], Field(min_length=1), AfterValidator(rising_blocks)]
Scope = Literal["uniform", "global", "isomorphic"]
TokenPruning = Literal["topk", "evit", "tome", "dynamicvit"]
Sparsity = Literal["none", "50%", "75%", "2:4"]
Distillation = Literal["none", "logits", "feature", "token", "token_hard"]
Precision = Literal[
    "fp32", "fp16", "bf16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed", "w8a16", "palette4"
]
if TYPE_CHECKING:
    Runtime = str
    Provider = str
else:  # pydantic lists them in its messages and in the JSON schema
    Runtime = Literal[tuple(TARGETS)]
    Provider = Literal[tuple(providers())]
QuantizedOps = Literal["auto", "linear", "all"]
Batch = Annotated[
    str,
    BeforeValidator(batch_word),  # a number in YAML
    WithJsonSchema({"anyOf": [{"enum": ["auto", "open"]}, {"type": "integer", "minimum": 1, "maximum": MOST_BATCH}]}),
]
Threads = Annotated[Int, Field(ge=1, le=MOST_THREADS)]
Streams = Annotated[Int, Field(ge=1, le=MOST_STREAMS)]


class Knobs(Section):
    """The knobs that are searched. Each takes one value or a list; ratios also take {low, high, step}."""

    backbone: Backbones
    """Names of backbones, or {name, weights}; mean, std, interpolation and crop_share beside the weights. A name may be
    a glob of timm names, such as mobilenetv4_conv_*: a run stores the names that match."""
    resolution: Annotated[tuple[ImageSize, ...], Choices(Size, alone=Square)]
    """Size of the input image in pixels: the side of a square, or [height, width]. A single rectangle is written as a
    list in a list: [[192, 256]]."""
    window_size: Annotated[tuple[int, ...], Choices(_Window, least=0)] = ()
    """Side of the attention windows, for families that have windows."""
    head_pruning_ratio: Ratios = (0.0,)
    """Share of the attention heads to remove."""
    ffn_pruning_ratio: Ratios = (0.0,)
    """Share of the hidden FFN channels to remove."""
    depth_pruning_ratio: Ratios = (0.0,)
    """Share of the removable blocks to remove."""
    embed_pruning_ratio: Ratios = (0.0,)
    """Share of the channels of the residual stream to remove; plain ViTs only."""
    token_pruning_ratio: Ratios = (0.0,)
    """Share of the remaining tokens to drop or merge at each block where tokens are pruned."""
    token_pruning_method: Annotated[tuple[TokenPruning, ...], Choices(TokenPruning)] = ("topk",)
    """How tokens are chosen; used only by plans that drop tokens."""
    token_pruning_at: Annotated[tuple[tuple[int, ...], ...], Choices(_Positions, least=0)] = ()
    """Where tokens are pruned: lists of blocks, counted from 0, after which tokens are dropped (default: those of the
    method)."""
    pruning_scope: Annotated[tuple[Scope, ...], Choices(Scope)] = ("uniform",)
    """uniform removes the same share from each block; global ranks units over all blocks; isomorphic ranks them over
    blocks of the same shape."""
    weight_sparsity: Annotated[tuple[Sparsity, ...], Choices(Sparsity)] = ("none",)
    """Weights set to zero: a share, or a pattern. The file compresses better; only sparse kernels run faster."""
    width_multiple: Annotated[Int, Field(ge=1, le=1024)] = 8
    """FFN and embedding widths are rounded to a multiple of this; devices are slow on other widths."""
    distillation: Annotated[tuple[Distillation, ...], Choices(Distillation)] = ("logits",)
    """What the model learns from the teacher: its logits, its features, or its answers through a distillation token."""
    quantization: Annotated[tuple[Precision, ...], Choices(Precision)] = ("fp32",)
    """Precision of weights and arithmetic on the device."""
    quantized_ops: Annotated[tuple[QuantizedOps, ...], Choices(QuantizedOps)] = ("auto",)
    """What int8 covers in backbones with convolutions: linear layers (linear), or convolutions too (all). auto tries
    both on the leaderboard, and keeps the faster for each backbone, runtime, provider and precision, unless it loses
    more than 0.01 of accuracy."""
    backend: Annotated[tuple[Runtime, ...], Choices(Runtime)] = (default_runtime(),)
    """The runtime on the device."""
    provider: Annotated[tuple[Provider, ...], Choices(Provider, least=0)] = ()
    """What computes in the runtime, such as cpu, cuda or npu; each runtime tries those that it has (default: its first,
    which is the CPU where it has one)."""
    batch: Annotated[tuple[Batch, ...], Choices(Batch), AfterValidator(decides_alone)] = ("auto",)
    """Number of images in a run, or open for files that take any number and are measured with one. auto tries 1 and
    open on the leaderboard, and keeps the faster for each backbone, runtime, provider and precision."""
    threads: Annotated[tuple[Threads, ...], Choices(Threads, least=0)] = ()
    """Number of threads of a run (default: measure.threads), for what computes on the CPU; one above a measure.threads
    that the file gives is refused."""
    streams: Annotated[tuple[Streams, ...], Choices(Streams, least=0)] = ()
    """Number of runs in flight, such as one for each camera, where throughput and the latency beside each other are
    measured (default: as many as the cores have room for)."""


class Baseline(StartingWeights):
    """The unpruned model in fp32 on the first backend. It is always measured first; relative limits refer to it."""

    backbone: Text = ""
    """Backbone (default: the first of the space)."""
    weights: Weights = ""
    """Starting weights (default: those of the same backbone in the space, with their preprocessing)."""
    resolution: Size | None = None
    """Size of the input image in pixels: a side, or [height, width] (default: the largest resolution of the space)."""

    def filled(self, knobs: Knobs) -> Baseline:
        """The baseline with its defaults taken from `knobs`."""
        name = self.backbone or knobs.backbone[0].name
        listed = next((choice for choice in knobs.backbone if choice.name == name), None)
        weights = self.weights or (default_weights(name) if listed is None else listed.weights)
        is_listed = listed is not None and weights == listed.weights and self.preprocessing == OWN
        start: StartingWeights = listed if listed is not None and is_listed else self
        keys = {key: getattr(start, key) for key in StartingWeights.model_fields} | {"weights": weights}
        return Baseline(backbone=name, resolution=self.resolution or max(knobs.resolution), **keys)
