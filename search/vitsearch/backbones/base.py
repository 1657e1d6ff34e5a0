"""What a family of backbones must offer, so that pruning, scoring, refit and export need to know no family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.effect import Anatomy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelSpec:
    """A model to build. ``weights``: ``builtin``, ``hub``, ``none`` (seeded) or ``file:PATH``."""

    backbone: str
    weights: str
    resolution: int
    classes: int
    channels: int


@dataclass(frozen=True)
class Built:
    """``head_is_new``: the weights came with another classifier, so this one has to be trained."""

    model: nn.Module
    head_is_new: bool


@dataclass(frozen=True)
class BlockUnits:
    """One block as pruning sees it: the consumers of its heads (``proj``) and of its FFN neurons (``fc2``).

    The input of ``proj`` is the heads' outputs side by side, ``head_dim`` columns each; the input of
    ``fc2`` is the FFN's activations. ``fc1`` makes those.
    """

    name: str
    attention: nn.Module
    heads: int
    head_dim: int
    proj: nn.Linear
    fc1: nn.Linear
    fc2: nn.Linear


class Backbone(Protocol):
    """A family. Guarantees, checked by :class:`vitsearch.backbones.testing.BackboneTestCase`: cutting is
    exact (the cut model equals the whole one with the cut units masked), a cut model trains and
    exports, and what is not supported says why."""

    family: str

    def claims(self, name: str) -> bool:
        """Whether ``name`` is a backbone of this family."""
        ...

    def variants(self) -> Sequence[str]:
        """All names of this family."""
        ...

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        """None, or in one sentence why ``name`` cannot have ``knob`` at ``value``."""
        ...

    def native_resolution(self, name: str) -> int:
        """The side in pixels that the weights were trained at."""
        ...

    def build(self, spec: ModelSpec) -> Built:
        """In eval mode, weights fitted to the resolution; :class:`WeightsError` when they do not fit."""
        ...

    def anatomy(self, model: nn.Module, spec: ModelSpec) -> Anatomy:
        """Of an uncut model."""
        ...

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        """Of a model that may be cut already, in the order of ``anatomy``."""
        ...

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        """Keep these heads of one block, in place."""
        ...
