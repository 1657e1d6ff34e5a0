"""A plan: what one trial was asked to build. Plain frozen values, JSON there and back.

A plan says ratios; what they come to on one backbone (which heads, which channels) is its
:class:`~vitsearch.effect.Effect`. The JSON form is a contract: ``tests/search/golden/plan.json``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Distillation = Literal["none", "logits"]
Scope = Literal["uniform", "global"]


@dataclass(frozen=True)
class Deployment:
    """Where and how the model will run. ``device`` is the name of the device in the space file."""

    device: str
    runtime: str
    provider: str
    precision: str
    options: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a promoted plan is fine-tuned.

    ``rungs`` are epochs, rising from 0 (closed form, no gradient step); each rung starts from the
    weights of the one before and decays its own learning rate to zero, so that every rung's
    accuracy is a finished one. ``images_per_epoch`` is how many training images one epoch sees.
    """

    rungs: tuple[int, ...]
    images_per_epoch: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_steps: int
    distillation_weight: float
    temperature: float
    seed: int


@dataclass(frozen=True)
class Compression:
    """Ratios in [0, 1): the share that is removed. ``width_multiple`` rounds FFN widths."""

    head_pruning_ratio: float = 0.0
    ffn_pruning_ratio: float = 0.0
    token_pruning_ratio: float = 0.0
    token_pruning_method: str | None = None
    scope: Scope = "uniform"
    width_multiple: int = 8

    @property
    def is_identity(self) -> bool:
        return not (self.head_pruning_ratio or self.ffn_pruning_ratio or self.token_pruning_ratio)


@dataclass(frozen=True)
class Plan:
    """``weights`` is where training starts: ``builtin``, ``hub``, ``none`` or ``file:PATH``."""

    backbone: str
    weights: str
    resolution: int
    window_size: int | None
    compression: Compression
    distillation: Distillation
    recipe: Recipe
    deployments: tuple[Deployment, ...] = field(default=())

    @property
    def deployment(self) -> Deployment:
        """The one deployment; fleets (several) come later and will not use this."""
        (only,) = self.deployments
        return only

    def unpruned(self) -> Plan:
        return replace(self, compression=replace(Compression(), width_multiple=self.compression.width_multiple))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "deployments": [asdict(d) | {"options": dict(d.options)} for d in self.deployments],
            "recipe": asdict(self.recipe) | {"rungs": list(self.recipe.rungs)},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        recipe = Recipe(**value["recipe"] | {"rungs": tuple(value["recipe"]["rungs"])})
        deployments = tuple(
            Deployment(**d | {"options": tuple(sorted(d["options"].items()))}) for d in value["deployments"]
        )
        rest = {"compression": Compression(**value["compression"]), "recipe": recipe, "deployments": deployments}
        return cls(**value | rest)
