"""What of a model can be cut, as plain values: dotted names of its modules, no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from vitsearch_agent.base.canonical_json import digest as canonical_digest

SCHEMA = 2
"""Raised when the same model may get another structure: results that depend on the old one are not used again."""


@dataclass(frozen=True)
class Width:
    """Hidden channels that one or two layers make and another reads.

    Attributes:
        scope: The smallest module that holds all of these layers.
        producers: Layers that make the channels: one, or two that a gate multiplies (SwiGLU).
        between: Modules that treat each channel alone, or that norm over them, in the order of execution.
        squeezes: Pairs of layers on pooled channels (squeeze and excitation): the one that reads them, and the one that
            makes them again.
        consumer: The layer that reads the channels.
        channels: Their number.
        grain: So many neighbours stay or go together, because a grouped convolution or a norm of groups
            lies between.
        halves: Two runs of `channels` outputs of the producer belong to the same channels (gated units in one layer).
    """

    scope: str
    producers: tuple[str, ...]
    between: tuple[str, ...]
    squeezes: tuple[tuple[str, str], ...]
    consumer: str
    channels: int
    grain: int = 1
    halves: bool = False

    @property
    def units(self) -> int:
        """Number of units that can be removed alone."""
        return self.channels // self.grain

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that are cut, but for the modules between."""
        return (*self.producers, *(name for pair in self.squeezes for name in pair), self.consumer)


@dataclass(frozen=True)
class Heads:
    """Attention heads that are computed side by side.

    Attributes:
        scope: The attention.
        consumer: The layer that reads the outputs of all heads, `head_dim` columns each.
        count: The number of heads.
        head_dim: The width of a head's output.
        layout: How the rows of the projections are laid out: `parts` (queries, keys and values one after the other),
            `heads` (all of a head next to each other), or `rule` for an entry of `head_rules`.
    """

    scope: str
    consumer: str
    count: int
    head_dim: int
    layout: str


@dataclass(frozen=True)
class Addition:
    """Where the output of a layer is added to a stream; see `vitsearch.models.backbone.Branch`.

    Attributes:
        leaves: The module whose input is the stream.
        joins: The module whose output, or input, is the stream after the addition.
        at_input: The stream is the input of `joins`.
    """

    leaves: str
    joins: str
    at_input: bool = False


@dataclass(frozen=True)
class Part:
    """One block: at most one set of heads and one width, which are cut, ranked and dropped together.

    Attributes:
        name: A residual module that holds them, or the smallest module that holds them.
        heads: Its heads, if they can be cut.
        width: Its hidden channels, if they can be cut.
        removable: The module adds to its input, so that the model works without it.
        heads_addition: Where the output of the heads' consumer is added.
        width_addition: Where the output of the width's consumer is added.
        heads_norm: The batch norm directly behind the heads' consumer.
        width_norm: The batch norm directly behind the width's consumer.
    """

    name: str
    heads: Heads | None = None
    width: Width | None = None
    removable: bool = False
    heads_addition: Addition | None = None
    width_addition: Addition | None = None
    heads_norm: str | None = None
    width_norm: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A candidate that failed: what it was (`width`, `heads`), the class of its module, and the measured reason."""

    kind: str
    scope: str
    type: str
    reason: str


@dataclass(frozen=True)
class Structure:
    """All parts of a model in the order of execution, and the candidates that were refused."""

    parts: tuple[Part, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the parts, in hexadecimal: what is cut under the same names and indices."""
        return canonical_digest({"schema": SCHEMA, "parts": asdict(self)["parts"]})

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Structure:
        parts = tuple(_part(part) for part in value["parts"])
        return cls(parts, tuple(Refusal(**refusal) for refusal in value["refusals"]))


def _part(value: Mapping[str, Any]) -> Part:
    nested: dict[str, Any] = {
        "heads": value["heads"] and Heads(**value["heads"]),
        "width": value["width"] and _width(value["width"]),
        "heads_addition": value["heads_addition"] and Addition(**value["heads_addition"]),
        "width_addition": value["width_addition"] and Addition(**value["width_addition"]),
    }
    return Part(**{**value, **nested})


def _width(value: Mapping[str, Any]) -> Width:
    squeezes = tuple((reduce, expand) for reduce, expand in value["squeezes"])
    return Width(
        **{
            **value,
            "producers": tuple(value["producers"]),
            "between": tuple(value["between"]),
            "squeezes": squeezes,
        }
    )
