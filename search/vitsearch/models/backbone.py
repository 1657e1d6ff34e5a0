"""The protocol of a family of backbones, and the values that pass between it and the other packages.

Nothing here imports torch at run time, because the driver reads these types too. The conformance test of a family is
`vitsearch.testing.families.BackboneTestCase`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.core.resolve import BlockStructure

if TYPE_CHECKING:
    from torch import nn

    Layer = nn.Linear | nn.Conv2d
    """A linear layer, or a convolution of kernel size 1, which is a linear layer on pixels."""


@dataclass(frozen=True)
class ModelSpec:
    """The model to build.

    `backbone` is a timm name (a tag may follow) or a built-in base; `weights` is `builtin`, `hub`, `none`
    or `file:PATH`; `resolution` is in pixels; `window_size` in tokens, `None` for the family's own at the
    resolution.
    """

    backbone: str
    weights: str
    resolution: int
    classes: int
    channels: int = 3
    window_size: int | None = None


@dataclass(frozen=True, eq=False)
class Built:
    """A model in evaluation mode.

    `head_is_new`: its classifier (or, with another number of channels, its first layer) was not loaded unchanged,
    so the model must be trained first.
    """

    model: nn.Module
    head_is_new: bool


@dataclass(frozen=True, eq=False)
class Branch:
    """Where a residual branch leaves the stream and where it is added to it.

    `leaves` is the module whose input is the stream that the branch is added to. After the addition the stream is
    the output of `joins`, or, with `at_input`, its input. Modules between the last layer of the branch and the
    addition may only scale channels and move positions.
    """

    leaves: nn.Module
    joins: nn.Module
    at_input: bool = False


@dataclass(frozen=True, eq=False)
class BlockUnits:
    """The layers of one block that are cut, scored and refitted. They are the model's own layers, not copies.

    `proj` reads the outputs of all heads, `head_dim` columns for each of `heads`, side by side. Where a head
    gives several outputs (one for each scale), `head_runs` such rows of equal width follow each other. `fc2`
    reads the neurons that `fc1` (or a convolution of any size) makes, one column each; modules between the two must
    not mix neurons. Activations are observed at the inputs of `proj` and `fc2`, and the refit writes into these
    two layers. Where a block has nothing to cut, they are `None` and it has 0 heads.

    `proj_norm` and `fc2_norm` are batch norms directly behind a consumer without a bias; they hold the constant
    of the refit. `proj_branch` and `fc2_branch` are the streams that the output of a consumer is added to, for
    the sequential refit; `None` where there is none. `removable`: the module `name` is residual, and its output
    has the shape of its input. A dropped block is replaced by an identity and has no units.
    """

    name: str
    heads: int
    head_dim: int
    proj: Layer | None
    fc1: Layer | None
    fc2: Layer | None
    proj_norm: nn.Module | None = None
    fc2_norm: nn.Module | None = None
    head_runs: int = 1
    proj_branch: Branch | None = None
    fc2_branch: Branch | None = None
    removable: bool = False

    @classmethod
    def dropped(cls, name: str) -> BlockUnits:
        return cls(name, 0, 0, None, None, None)

    def head_columns(self, heads: Sequence[int]) -> list[int]:
        """The columns of `proj` that belong to `heads`."""
        width = self.head_dim // self.head_runs
        row = self.heads * width
        return [
            run * row + head * width + column
            for run in range(self.head_runs)
            for head in heads
            for column in range(width)
        ]

    @property
    def ffn_width(self) -> int:
        return 0 if self.fc1 is None else int(self.fc1.weight.shape[0])


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads the residual stream through `norm`."""

    name: str
    norm: nn.Module
    layer: nn.Linear


class Backbone(Protocol):
    """One family of backbones.

    Guarantees: `units(model)` and `block_structure(model, spec).blocks` list the same blocks in the same order,
    also for a cut model. A model without some heads equals, to 1e-5, the whole model with those columns of `proj`
    set to zero. Everything that `supports` allows works in `build`, `slice_heads` and the export.
    """

    family: str

    def claims(self, name: str) -> bool:
        """Whether `name` (a timm name, with or without a tag, or a built-in base) belongs to this family."""
        ...

    def variants(self) -> tuple[str, ...]:
        """All names that the family claims, without tags."""
        ...

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        """`None` if the model can be built with `knob` at `value`, else the reason, in one sentence.

        Knobs: weights, resolution, window_size, depth_pruning_ratio, embed_pruning_ratio, head_pruning_ratio,
        ffn_pruning_ratio, weight_sparsity, token_pruning_ratio, token_pruning_method, token_pruning_at,
        distillation, quantization, quantized_ops. `window_size@192` asks whether a window fits at 192 pixels; without
        a resolution, whether the model has windows at all. A knob that does not concern backbones is always supported.
        """
        ...

    def native_resolution(self, name: str) -> int:
        """Pixels at which the weights of `name` were trained."""
        ...

    def windows(self, name: str, resolution: int) -> tuple[int, ...]:
        """Sides of windows that `name` can be built with at `resolution` pixels; empty for a model without
        windows."""
        ...

    def own_window(self, name: str, resolution: int) -> int | None:
        """The default window of `name` at `resolution`; `None` if it is not one of `windows`."""
        ...

    def build(self, spec: ModelSpec) -> Built:
        """Build a new model with its starting weights.

        `WeightsError` when they cannot be found or do not fit,
        `PlanError` for an unsupported resolution or window.
        """
        ...

    def block_structure(self, model: nn.Module, spec: ModelSpec) -> BlockStructure:
        """What can be cut from `model` in its present state."""
        ...

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        """The layers behind the block structure."""
        ...

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        """Remove, in place, every head of `block` that is not in `kept` (ascending indices)."""
        ...

    def slice_stream(self, model: nn.Module, kept: Sequence[int]) -> None:
        """Remove, in place, every channel of the residual stream that is not in `kept` (ascending indices).

        A norm over fewer channels takes mean and variance over these alone. So the cut model equals, to 1e-5, not the
        model with the other channels masked, but the one whose norms read only the kept channels and give zero for the
        others.
        """
        ...

    def stream_readers(self, model: nn.Module) -> tuple[Reader, ...]:
        """The layers of the blocks that read the stream, in order, without classifiers; none if the stream is not cut.

        A cut model has the remaining readers of its base, under the same names.
        """
        ...

    def deployable(self, model: nn.Module) -> nn.Module:
        """The model that ships: `model` itself, or a copy in which branches that only training needs are merged.

        The copy gives the same outputs; `units` does not work on it. See `vitsearch.export.deploy.deployed`.
        """
        ...
