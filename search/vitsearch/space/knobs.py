"""What is searched, and the baseline that it is compared with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from vitsearch.space.kinds import Choices, Either, Int, Number, Ratio, Text, problem, rising_blocks, word_or
from vitsearch.space.section_base import Pixels, Section, Weights, default_weights, with_weights


class Backbone(Section):
    """A backbone and the weights that it starts from."""

    name: Text
    weights: Weights = ""
    """builtin, hub, none or file:PATH (default: builtin where there is one, else hub)."""

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, data: Any) -> Any:
        return with_weights(data, "name")


class Range(Section):
    """Every value from low to high in equal steps."""

    low: Ratio
    high: Ratio
    step: Annotated[Number, Field(ge=0.001, le=0.95)]

    def expanded(self) -> tuple[float, ...]:
        if self.high < self.low:
            raise problem(f"high {self.high:g} is below low {self.low:g}")
        count = int((self.high - self.low) / self.step + 1e-6) + 1
        return tuple(round(self.low + index * self.step, 6) for index in range(count))


_Named = Annotated[Text, AfterValidator(lambda name: Backbone(name=name, weights=default_weights(name)))]
_OneBackbone = Annotated[Any, Either(word_or("<mapping>"), {"<word>": _Named, "<mapping>": Backbone})]
Backbones = Annotated[tuple[Backbone, ...], Choices(_OneBackbone, name_of=lambda it: it.name)]
Ratios = Annotated[tuple[float, ...], Choices(Ratio, span=Range)]
_Window = Annotated[Int, Field(ge=1, le=256)]
_Block = Annotated[Int, Field(ge=0, le=255)]
_Positions = Annotated[tuple[_Block, ...], Field(min_length=1), AfterValidator(rising_blocks)]
Scope = Literal["uniform", "global", "isomorphic"]
TokenPruning = Literal["topk", "evit", "tome", "dynamicvit"]
Sparsity = Literal["none", "50%", "75%", "2:4"]
Distillation = Literal["none", "logits", "feature", "token", "token_hard"]
Precision = Literal["fp32", "fp16", "bf16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed"]
Runtime = Literal["onnxruntime"]


class Knobs(Section):
    """What is searched. Each knob takes one value or a list; ratios also take {low, high, step}."""

    backbone: Backbones
    """Names of backbones, or {name, weights}."""
    resolution: Annotated[tuple[int, ...], Choices(Pixels)]
    """Sides of the square input image, in pixels."""
    window_size: Annotated[tuple[int, ...], Choices(_Window, least=0)] = ()
    """Attention windows, for the families that have them."""
    head_pruning_ratio: Ratios = (0.0,)
    """Share of the attention heads that is cut."""
    ffn_pruning_ratio: Ratios = (0.0,)
    """Share of the hidden channels of the FFNs that is cut."""
    depth_pruning_ratio: Ratios = (0.0,)
    """Share of the blocks that is dropped, of those that can be."""
    embed_pruning_ratio: Ratios = (0.0,)
    """Share of the channels of the residual stream that is cut; plain ViTs only."""
    token_pruning_ratio: Ratios = (0.0,)
    """Share of the tokens that is dropped at each of the places."""
    token_pruning_method: Annotated[tuple[TokenPruning, ...], Choices(TokenPruning)] = ("topk",)
    """How tokens are chosen; asked only where some are dropped."""
    token_pruning_at: Annotated[tuple[tuple[int, ...], ...], Choices(_Positions, least=0)] = ()
    """Lists of blocks, counted from 0, behind which tokens are dropped (default: the method's own)."""
    pruning_scope: Annotated[tuple[Scope, ...], Choices(Scope)] = ("uniform",)
    """uniform cuts each block alike; global ranks over all blocks, isomorphic over blocks of one shape."""
    weight_sparsity: Annotated[tuple[Sparsity, ...], Choices(Sparsity)] = ("none",)
    """Weights set to zero: smaller when compressed, faster on sparse kernels only."""
    width_multiple: Annotated[Int, Field(ge=1, le=1024)] = 8
    """FFN and embedding widths are rounded to this; devices are slow on odd widths."""
    distillation: Annotated[tuple[Distillation, ...], Choices(Distillation)] = ("logits",)
    quantization: Annotated[tuple[Precision, ...], Choices(Precision)] = ("fp32",)
    backend: Annotated[tuple[Runtime, ...], Choices(Runtime)] = ("onnxruntime",)
    """The runtime on the device."""


class Baseline(Section):
    """Measured first, always; relative limits refer to it. In fp32 on the first backend."""

    backbone: Text = ""
    """Default: the first backbone of the space."""
    weights: Weights = ""
    """Default: as for that backbone in the space."""
    resolution: Pixels = 0
    """Default: the largest resolution of the space."""

    def filled(self, knobs: Knobs) -> Baseline:
        name = self.backbone or knobs.backbone[0].name
        listed = {choice.name: choice.weights for choice in knobs.backbone}
        weights = self.weights or listed.get(name) or default_weights(name)
        return Baseline(backbone=name, weights=weights, resolution=self.resolution or max(knobs.resolution))
