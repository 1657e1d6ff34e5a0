"""What a family of backbones must offer, and the values that pass between it and the rest.

Nothing here imports torch when it runs: the driver reads these types too. The conformance test of
a family is :class:`vitsearch.testing.families.BackboneTestCase`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.core.resolve import BlockStructure

if TYPE_CHECKING:
    from torch import nn

    Layer = nn.Linear | nn.Conv2d
    """A linear layer, or a convolution of kernel size 1, which is one on the pixels."""


@dataclass(frozen=True)
class ModelSpec:
    """Which model to build. ``backbone`` is a timm name (a tag may follow) or a built-in base;
    ``weights`` is ``builtin``, ``hub``, ``none`` or ``file:PATH``; ``resolution`` in pixels; ``window_size``
    in tokens, ``None`` for the family's own at the resolution."""

    backbone: str
    weights: str
    resolution: int
    classes: int
    channels: int = 3
    window_size: int | None = None


@dataclass(frozen=True, eq=False)
class Built:
    """A model in evaluation mode. ``head_is_new``: its classifier (or, with another number of
    channels, its first layer) does not come from the weights as they were, so train it first.
    ``mean`` and ``std`` are those that the weights were trained with, per channel of the source."""

    model: nn.Module
    head_is_new: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Branch:
    """Where a residual branch leaves the stream and comes back to it.

    ``leaves`` is the module whose input is the stream that the branch is added to. Behind the
    addition the stream is what ``joins`` gives, or, with ``at_input``, what it reads. What lies
    between the branch's last layer and the addition may scale channels and move positions, no more.
    """

    leaves: nn.Module
    joins: nn.Module
    at_input: bool = False


@dataclass(frozen=True, eq=False)
class BlockUnits:
    """What of one block is cut, scored and refitted. Layers are the model's own, not copies.

    ``proj`` reads the outputs of all heads, ``head_dim`` columns for each of ``heads``, side by side;
    where a head gives several outputs (one for each scale), ``head_runs`` such rows of equal width
    follow each other. ``fc2`` reads the neurons that ``fc1`` (a convolution of any size, if it is one)
    makes, one column each; what lies between mixes no neurons. ``proj`` and ``fc2`` are where
    activations are seen (their inputs) and where the refit writes. ``None``, and 0 heads, where a
    block has nothing to cut. ``proj_norm`` and ``fc2_norm`` are batch norms
    directly behind a consumer that has no bias of its own; they then take the refit's constant.
    ``proj_branch`` and ``fc2_branch`` tell the sequential refit which stream a consumer's output is
    added to; ``None`` where to none. ``removable``: the module ``name`` is residual, its output has the
    shape of its input; once dropped, an identity stands there, and the block has no units.
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
        """The columns of ``proj`` that ``heads`` own."""
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
    """A layer that reads the residual stream through ``norm``."""

    name: str
    norm: nn.Module
    layer: nn.Linear


class Backbone(Protocol):
    """One family of backbones.

    Guarantees: ``units(model)`` and ``anatomy(model, spec).blocks`` list the same blocks in the
    same order, for a cut model too; a model without the heads ``kept`` leaves out equals, to 1e-5,
    the whole model with those columns of ``proj`` set to zero; what ``supports`` grants, ``build``,
    ``slice_heads`` and the export can do.
    """

    family: str

    def claims(self, name: str) -> bool:
        """Whether ``name`` (a timm name, with or without a tag, or a built-in base) is of this family."""
        ...

    def variants(self) -> tuple[str, ...]:
        """Every name that the family claims, without tags."""
        ...

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        """``None`` when the model can be built with ``knob`` at ``value``, else why not, in one sentence.

        Knobs: weights, resolution, window_size, depth_pruning_ratio, embed_pruning_ratio, head_pruning_ratio,
        ffn_pruning_ratio, weight_sparsity, token_pruning_ratio, token_pruning_method, token_pruning_at,
        distillation, quantization. ``window_size@192`` asks whether a window fits at 192 pixels; without a
        resolution, whether the model has windows at all. A knob that does not concern backbones is
        always supported.
        """
        ...

    def native_resolution(self, name: str) -> int:
        """Pixels at which the weights of ``name`` were trained."""
        ...

    def windows(self, name: str, resolution: int) -> tuple[int, ...]:
        """Sides of windows that ``name`` can be built with at ``resolution`` pixels; empty where it has none."""
        ...

    def own_window(self, name: str, resolution: int) -> int | None:
        """The one of :meth:`windows` that ``name`` has when none is asked for; ``None`` when it is none of them."""
        ...

    def build(self, spec: ModelSpec) -> Built:
        """A fresh model with its starting weights; :class:`~vitsearch.errors.WeightsError` when they
        cannot be found or do not fit, :class:`~vitsearch.errors.PlanError` for what is not supported."""
        ...

    def block_structure(self, model: nn.Module, spec: ModelSpec) -> BlockStructure:
        """What may be cut of ``model`` as it is."""
        ...

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        """The layers behind the anatomy."""
        ...

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        """Remove, in place, every head of ``block`` that is not in ``kept`` (ascending indices)."""
        ...

    def slice_stream(self, model: nn.Module, kept: Sequence[int]) -> None:
        """Remove, in place, every channel of the residual stream that is not in ``kept`` (ascending indices).

        A norm over fewer channels takes mean and variance over these alone. So what is left equals, to 1e-5,
        not the model with the other channels masked, but the one whose norms read the kept channels alone
        and give zero for the others.
        """
        ...

    def stream_readers(self, model: nn.Module) -> tuple[Reader, ...]:
        """The layers of the blocks that read the stream, in order, classifiers left out; none where it is not cut.
        A cut model has those of its base that are left, under the same names."""
        ...

    def deployable(self, model: nn.Module) -> nn.Module:
        """What ships: ``model`` itself, or a copy in which branches that only training needs are merged.

        The copy gives the same outputs; ``units`` does not know it. See :func:`vitsearch.export.deploy.deployed`.
        """
        ...
