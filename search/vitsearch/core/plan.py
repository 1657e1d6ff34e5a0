"""A plan: the description of the model that one trial builds. Plain frozen values that convert to and from JSON.

A plan has ratios; the heads and channels that they select on one backbone are its
`ResolvedPlan`. The JSON form is a contract: `tests/search/golden/plan.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from vitsearch.core.class_weights import NONE, ClassWeights
from vitsearch.core.image_size import ImageSize
from vitsearch.core.precisions import ALL, quantized_ops_of
from vitsearch.core.preprocessing import OWN, PreprocessingKeys
from vitsearch.core.targets import TARGETS, default_runtime
from vitsearch.core.tuning import tuning_of

Distillation = Literal["none", "logits", "feature", "token", "token_hard"]
Scope = Literal["uniform", "global", "isomorphic"]
Options = tuple[tuple[str, str | int], ...]
"""Names and values, of a runtime."""


@dataclass(frozen=True)
class Deployment:
    """Where and how the model runs.

    Attributes:
        device: The name of the device in the space file.
        runtime: What runs the file, such as `onnxruntime`.
        provider: What computes (`vitsearch.core.TARGETS`), such as `cpu`.
        precision: Of weights and activations, such as `fp32` or `int8_ptq`.
        batch: The number of images in a run that the file is made for; None for a file that takes any.
        quantized_ops: The layers that int8 covers, `linear` or `all`; None for a precision without int8 arithmetic and
            for a backbone without convolutions, which have one form only.
        options: Further options of the runtime.
        threads: The number of threads of a run.
        streams: The number of runs in flight where throughput is measured; None for as many as the cores have room for.
    """

    device: str
    runtime: str
    provider: str
    precision: str
    batch: int | None = None
    quantized_ops: str | None = None
    options: Options = ()
    threads: int = 1
    streams: int | None = None

    def with_options(self, more: Options) -> Deployment:
        """Add options of the runtime.

        Args:
            more: Names and values.

        Returns:
            The same deployment with these further options.
        """
        return replace(self, options=(*self.options, *more))

    def as_exported(self) -> Deployment:
        """Leave out how a file is run.

        Returns:
            The deployment that all deployments of one file share: with one thread, and no number of streams.
        """
        return replace(self, threads=1, streams=None)

    def at(self, precision: str) -> Deployment:
        """Change the precision.

        Args:
            precision: The new one.

        Returns:
            The same deployment, with the quantized layers that it can have at this precision.
        """
        can_have = self.quantized_ops in quantized_ops_of(self.runtime, self.provider, precision)
        return replace(self, precision=precision, quantized_ops=self.quantized_ops if can_have else None)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images (none by default). See `vitsearch.training.augment`.

    Attributes:
        flip: The probability of mirroring.
        crop: The smallest share of the area that a random resized crop keeps.
        randaugment: The magnitude, 0 to 30, of two random operations for each image.
        mixup: The alpha of mixup's Beta distribution, 0 for off.
        cutmix: The alpha of CutMix's Beta distribution, 0 for off.
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

    Each rung starts from the weights of the one before and decays its own learning rate to zero, so that every rung
    ends with a finished model.

    Attributes:
        rungs: Epochs, rising from 0 (closed form, no gradient step).
        images_per_epoch: The number of training images in one epoch.
        batch_size: Images in a step.
        lr: The peak learning rate.
        weight_decay: That of AdamW.
        warmup_steps: The steps in which the learning rate rises.
        distillation_weight: The share of the teacher in the loss, 0 to 1.
        temperature: That of the softmaxes which distillation compares.
        seed: Of the order of images and of their augmentation.
        augmentation: Random changes of the images.
        label_smoothing: The probability that is spread over all classes.
        layer_decay: Multiplies the learning rate once for each layer between a weight and the classifier (1 for equal
            rates).
        frozen_blocks: The stem and this many first blocks are not trained.
        gradient_checkpointing: Whether activations are computed again in the backward pass, to save memory.
        frozen_statistics: Whether batch norms keep the statistics that they start with.
        class_weights: How much the images of each class count in the loss of the labels.
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
    frozen_statistics: bool = False
    class_weights: ClassWeights = NONE

    @property
    def images(self) -> int:
        """The images that a training sees, to its last rung."""
        return self.images_per_epoch * self.rungs[-1]

    def in_keys(self) -> dict[str, Any]:
        """Give what enters the keys of trainings.

        Returns:
            All fields; class weights only where there are any.
        """
        unused = ("class_weights",) if self.class_weights == NONE else ()
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def to_json(self) -> dict[str, Any]:
        weights = self.class_weights if isinstance(self.class_weights, str) else dict(self.class_weights)
        return asdict(self) | {"rungs": list(self.rungs), "class_weights": weights}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        augmentation = Augmentation(**value.get("augmentation", {}))
        weights = value.get("class_weights", NONE)
        weights = weights if isinstance(weights, str) else tuple(weights.items())
        changed = {"rungs": tuple(value["rungs"]), "augmentation": augmentation, "class_weights": weights}
        return cls(**value | changed)


@dataclass(frozen=True)
class QuantizationAware:
    """Quantization-aware training for `int8_qat`, which follows the last rung with the same recipe, except that it
    has `epochs_share` of that rung's epochs and a peak learning rate of its own, `lr` (None: the backbone's), and
    that batch norms keep their statistics: under rounding they moved away from the weights that follow them."""

    epochs_share: float = 1.0
    lr: float | None = None

    def of(self, backbone: str) -> QuantizationAware:
        """The same settings with the learning rate of `backbone` where they have none."""
        return replace(self, lr=self._lr(backbone))

    def recipe(self, recipe: Recipe, backbone: str) -> Recipe:
        return replace(recipe, lr=self._lr(backbone), frozen_statistics=True)

    def epochs(self, rung: int) -> float:
        return rung * self.epochs_share

    def _lr(self, backbone: str) -> float:
        return tuning_of(backbone).qat_lr if self.lr is None else self.lr


@dataclass(frozen=True)
class Compression:
    """What is removed from the backbone. Each ratio, in [0, 1), is the share that is removed.

    Attributes:
        head_pruning_ratio: Of the attention heads.
        ffn_pruning_ratio: Of the hidden channels of the FFNs.
        token_pruning_ratio: Of the patch tokens.
        token_pruning_method: How tokens are chosen; None without token pruning.
        scope: Whether each block loses the same share, or the least important units of all blocks go.
        width_multiple: The widths of the FFNs and of the stream are rounded to multiples of it.
        token_pruning_at: The blocks (from 0) after which tokens are dropped; empty for the method's default positions.
        depth_pruning_ratio: Of the removable blocks.
        embed_pruning_ratio: Of the channels of the residual stream.
        weight_sparsity: `none`, a share (`50%`) or a pattern (`2:4`).
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
    """The model that one trial builds.

    Attributes:
        backbone: A timm name (a tag may follow) or a built-in base.
        weights: The starting weights: `builtin`, `hub`, `none` or `file:PATH`.
        resolution: The size of the images.
        window_size: The side of attention windows, in tokens; None for the backbone's own, or none.
        compression: What is removed.
        distillation: What is learned from the teacher.
        recipe: How the model is fine-tuned.
        deployments: Where and how it runs; one in a trial.
        preprocessing: What the space file says of the preprocessing of the starting weights.
    """

    backbone: str
    weights: str
    resolution: ImageSize
    window_size: int | None
    compression: Compression
    distillation: Distillation
    recipe: Recipe
    deployments: tuple[Deployment, ...] = field(default=())
    preprocessing: PreprocessingKeys = OWN

    @property
    def deployment(self) -> Deployment:
        """The only deployment.

        Raises:
            ValueError: There are several.
        """
        (only,) = self.deployments
        return only

    def unpruned(self) -> Plan:
        """Take the compression away.

        Returns:
            The same plan, with the backbone's own windows.
        """
        whole = replace(Compression(), width_multiple=self.compression.width_multiple)
        return replace(self, window_size=None, compression=whole)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, in the form that `vitsearch front --json` prints and `vitsearch plan` reads.

        Returns:
            The plan, ready for `json.dumps`.
        """
        return asdict(self) | {
            "resolution": self.resolution.to_json(),
            "compression": self.compression.to_json(),
            "deployments": [asdict(d) | {"options": dict(d.options)} for d in self.deployments],
            "recipe": self.recipe.to_json(),
            "preprocessing": self.preprocessing.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Read what `to_json` returned.

        Args:
            value: The plain values.

        Returns:
            An equal plan.
        """
        deployments = tuple(
            Deployment(**d | {"options": tuple(sorted(d["options"].items()))}) for d in value["deployments"]
        )
        return cls(
            **value
            | {
                "resolution": ImageSize.of(value["resolution"]),
                "compression": Compression.from_json(value["compression"]),
                "recipe": Recipe.from_json(value["recipe"]),
                "deployments": deployments,
                "preprocessing": PreprocessingKeys.from_json(value["preprocessing"]),
            }
        )


def model_text(plan: Plan) -> str:
    """The model of a plan, such as `vit_fmnist_p4@28` or `vit_fmnist_p4@64x96`."""
    return f"{plan.backbone}@{plan.resolution}"


def plan_text(plan: Plan, with_model: bool = True) -> str:
    """A plan in one short line."""
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
        positions = f" after {','.join(map(str, cut.token_pruning_at))}" if cut.token_pruning_at else ""
        parts.append(f"{cut.token_pruning_method}-{cut.token_pruning_ratio:.0%}{positions}")
    if cut.weight_sparsity != "none":
        parts.append(f"sparse {cut.weight_sparsity}")
    if plan.distillation not in ("none", "logits"):
        parts.append(f"{plan.distillation} distillation")
    return " ".join([*parts, deployment_text(plan.deployment)])


def precision_text(precision: str, quantized_ops: str | None) -> str:
    """A precision, such as `int8_ptq`; `int8_ptq+conv` where convolutions are quantized too."""
    return f"{precision}+conv" if quantized_ops == ALL else precision


def deployment_text(deployment: Deployment) -> str:
    """The precision, runtime and provider unless they are the default ones, and a batch, threads and streams that are
    not 1."""
    parts = [precision_text(deployment.precision, deployment.quantized_ops)]
    if deployment.runtime != default_runtime():
        parts.append(deployment.runtime)
    runtime = TARGETS.get(deployment.runtime)
    if runtime is None or deployment.provider != next(iter(runtime.providers)):
        parts.append(deployment.provider)
    if deployment.batch != 1:
        parts.append("open batch" if deployment.batch is None else f"batch {deployment.batch}")
    if deployment.threads > 1:
        parts.append(f"{deployment.threads} threads")
    if (deployment.streams or 1) > 1:
        parts.append(f"{deployment.streams} streams")
    return " ".join(parts)
