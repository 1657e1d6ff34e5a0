"""A plan: what one trial was asked to build. Plain frozen values, JSON there and back.

A plan says ratios; what they come to on one backbone (which heads, which channels) is its
:class:`~vitsearch.core.resolve.Effect`. The JSON form is a contract: ``tests/search/golden/plan.json``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Distillation = Literal["none", "logits", "feature", "token", "token_hard"]
Scope = Literal["uniform", "global", "isomorphic"]


@dataclass(frozen=True)
class Deployment:
    """Where and how the model will run. ``device`` is the name of the device in the space file."""

    device: str
    runtime: str
    provider: str
    precision: str
    options: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """Random views of training images; as it stands, none. See :mod:`vitsearch.training.augment`.

    ``flip`` is the chance of a mirror image; ``crop`` the smallest share of the area that a random
    resized crop keeps; ``randaugment`` the magnitude, 0 to 30, of two random operations for each
    image; ``mixup`` and ``cutmix`` the alpha of their Beta distribution, 0 for off.
    """

    flip: float = 0.0
    crop: float = 1.0
    randaugment: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def is_none(self) -> bool:
        return self == Augmentation()


@dataclass(frozen=True)
class Recipe:
    """How a promoted plan is fine-tuned.

    ``rungs`` are epochs, rising from 0 (closed form, no gradient step); each rung starts from the
    weights of the one before and decays its own learning rate to zero, so that every rung's
    accuracy is a finished one. ``images_per_epoch`` is how many training images one epoch sees.
    ``layer_decay`` multiplies the learning rate once for each layer between a weight and the
    classifier (1: all alike); the stem and the first ``frozen_blocks`` blocks do not learn.
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
    augmentation: Augmentation = Augmentation()
    label_smoothing: float = 0.0
    layer_decay: float = 1.0
    frozen_blocks: int = 0
    gradient_checkpointing: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"rungs": list(self.rungs)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        augmentation = Augmentation(**value.get("augmentation", {}))
        return cls(**value | {"rungs": tuple(value["rungs"]), "augmentation": augmentation})


@dataclass(frozen=True)
class QuantizationAware:
    """Training for ``int8_qat``, behind the last rung and with its recipe but for ``epochs_share`` of that
    rung's epochs, at a peak learning rate of ``lr_share`` of the recipe's."""

    epochs_share: float = 1.0
    lr_share: float = 1.0

    def recipe(self, recipe: Recipe) -> Recipe:
        return replace(recipe, lr=recipe.lr * self.lr_share)

    def epochs(self, rung: int) -> float:
        return rung * self.epochs_share


@dataclass(frozen=True)
class Compression:
    """Ratios in [0, 1): the share that is removed. ``width_multiple`` rounds FFN and stream widths.

    ``depth_pruning_ratio`` is of the blocks that can be dropped.
    ``token_pruning_at`` are the blocks (from 0) behind which tokens are dropped; none named: the
    method's own places. ``weight_sparsity`` is ``none``, a share (``50%``) or a pattern (``2:4``).
    """

    head_pruning_ratio: float = 0.0
    ffn_pruning_ratio: float = 0.0
    token_pruning_ratio: float = 0.0
    token_pruning_method: str | None = None
    scope: Scope = "uniform"
    width_multiple: int = 8
    token_pruning_at: tuple[int, ...] = ()
    depth_pruning_ratio: float = 0.0
    embed_pruning_ratio: float = 0.0
    weight_sparsity: str = "none"

    @property
    def is_identity(self) -> bool:
        return replace(self, scope="uniform", width_multiple=8, token_pruning_method=None, token_pruning_at=()) == (
            Compression()
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"token_pruning_at": list(self.token_pruning_at)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Compression:
        return cls(**value | {"token_pruning_at": tuple(value.get("token_pruning_at", ()))})


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
        """Nothing cut, the windows that the backbone has by itself."""
        whole = replace(Compression(), width_multiple=self.compression.width_multiple)
        return replace(self, window_size=None, compression=whole)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "compression": self.compression.to_json(),
            "deployments": [asdict(d) | {"options": dict(d.options)} for d in self.deployments],
            "recipe": self.recipe.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        deployments = tuple(
            Deployment(**d | {"options": tuple(sorted(d["options"].items()))}) for d in value["deployments"]
        )
        return cls(
            **value
            | {
                "compression": Compression.from_json(value["compression"]),
                "recipe": Recipe.from_json(value["recipe"]),
                "deployments": deployments,
            }
        )


def model_text(plan: Plan) -> str:
    return f"{plan.backbone}@{plan.resolution}"


def cut_text(plan: Plan, with_model: bool = True) -> str:
    """What a plan is, in one short line."""
    cut = plan.compression
    parts = [model_text(plan)] if with_model else []
    if plan.window_size:
        parts.append(f"windows-{plan.window_size}")
    if cut.depth_pruning_ratio:
        parts.append(f"depth-{cut.depth_pruning_ratio:.0%}")
    if cut.embed_pruning_ratio:
        parts.append(f"embed-{cut.embed_pruning_ratio:.0%}")
    if cut.head_pruning_ratio:
        parts.append(f"heads-{cut.head_pruning_ratio:.0%}")
    if cut.ffn_pruning_ratio:
        parts.append(f"ffn-{cut.ffn_pruning_ratio:.0%}")
    if cut.scope != "uniform" and not cut.is_identity:
        parts.append(cut.scope)
    if cut.token_pruning_ratio:
        places = f" behind {','.join(map(str, cut.token_pruning_at))}" if cut.token_pruning_at else ""
        parts.append(f"{cut.token_pruning_method}-{cut.token_pruning_ratio:.0%}{places}")
    if cut.weight_sparsity != "none":
        parts.append(f"sparse {cut.weight_sparsity}")
    if plan.distillation not in ("none", "logits"):
        parts.append(f"{plan.distillation} distillation")
    return " ".join([*parts, plan.deployment.precision])
