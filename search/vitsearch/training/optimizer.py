"""Settings of a training: which weights learn at which rate, numerical precision, memory.

Layers are counted as timm groups them (`model.group_matcher`): the stem is 0, each block one more, the classifier
last. Grouping goes by names, so pruned models are grouped like whole ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeGuard, cast

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn

from vitsearch.core.plan import Recipe
from vitsearch.errors import StageError

Precision = Literal["fp32", "bf16", "fp16"]
MIN_LINEAR_SHARE = 0.9
"""Smallest share of weights in linear layers for bf16 on a CPU. Time of a training step in bf16 over fp32, by this
share: 1.0 (plain ViT, Swin) 0.45 and 0.80, 0.99 (LeViT) 0.71; 0.55 to 0.6 (MobileViT, EfficientViT-MIT) 0.8 to 1.34."""
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_precision(model: nn.Module, device: str) -> Precision:
    """The fastest precision that trains `model` on `device`.

    On a GPU `bf16` if its hardware multiplies bf16, else `fp16`. On a CPU `bf16` if its hardware multiplies
    bf16 and `model` consists of linear layers, else `fp32`: CPUs have no fast bf16 convolutions.
    """
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    multiplies = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16" if multiplies and _linear_share(model) >= MIN_LINEAR_SHARE else "fp32"


def _linear_share(model: nn.Module) -> float:
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) or _embeds_patches(m))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and not _embeds_patches(m)]
    return linear / max(linear + sum(m.weight.numel() for m in convolutions), 1)


def _embeds_patches(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a convolution equals a linear layer on patches: it reads no pixel twice."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1)


def autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=AUTOCAST[precision])


def gradient_scaler(device: str, precision: Precision) -> torch.amp.GradScaler:
    """A scaler that keeps small gradients above the smallest number of fp16; in other precisions it does nothing."""
    return torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over the parameters that require gradients.

    Biases, norms and parameters that the model exempts get no weight decay. With a `layer_decay` below 1 the rate
    of each layer is that of the next layer times `layer_decay` (Clark et al. 2020).
    """
    decay = recipe.layer_decay if recipe.layer_decay < 1.0 else None
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay, layer_decay=decay
    )
    return optimizer


def schedule_of(optimizer: torch.optim.Optimizer, steps: int, recipe: Recipe) -> CosineLRScheduler:
    """Linear warm-up over at most a quarter of the steps, then cosine to 0."""
    warmup = min(recipe.warmup_steps, steps // 4)
    return CosineLRScheduler(
        optimizer,
        t_initial=steps - warmup,
        warmup_t=warmup,
        warmup_lr_init=recipe.lr / max(warmup, 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )


@contextmanager
def frozen_front(model: nn.Module, blocks: int) -> Iterator[None]:
    """Freeze the stem and the first `blocks` blocks inside this context; 0 freezes nothing, not even the stem.

    Frozen modules are in evaluation mode, so that their batch norms keep their statistics. `StageError` when the
    model has fewer blocks, or timm does not group its layers.
    """
    frozen = [p for p in _front(model, blocks) if p.requires_grad] if blocks else []
    for parameter in frozen:
        parameter.requires_grad_(False)
    for module in model.modules() if blocks else ():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def frozen_statistics(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Keep batch norms in evaluation mode inside this context, if `wanted`: they use and keep the statistics that
    they have; scale and shift still learn."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms if wanted else ():
        norm.eval()
    try:
        yield
    finally:
        for norm in norms if wanted else ():
            norm.train()


def _front(model: nn.Module, blocks: int) -> list[nn.Parameter]:
    if not hasattr(model, "group_matcher"):
        wrong = f"frozen_blocks: timm does not group the layers of {type(model).__name__} into blocks; allowed: 0"
        raise StageError("train", "unsupported", wrong)
    matcher = cast(Any, model).group_matcher(coarse=False)
    layers: dict[str, int] = group_parameters(model, matcher, reverse=True)
    removed = [isinstance(block, nn.Identity) for block in getattr(model, "blocks", ())]
    most = max(layers.values()) - 1 + sum(removed)
    if blocks > most:
        wrong = f"frozen_blocks: {blocks} of a {type(model).__name__} with {most} blocks; allowed: 0 to {most}"
        raise StageError("train", "unsupported", wrong)
    staying = blocks - sum(removed[:blocks])  # of the first blocks of the backbone, as it is unpruned
    return [parameter for name, parameter in model.named_parameters() if layers[name] <= staying]


@contextmanager
def checkpointing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Recompute the activations of blocks in the backward pass (Chen et al. 2016) inside this context, if `wanted`.

    It saves memory and takes about a third more time. `StageError` for a model that timm cannot checkpoint.
    """
    if wanted:
        _set_checkpointing(model, True)
    try:
        yield
    finally:
        if wanted:
            _set_checkpointing(model, False)


def _set_checkpointing(model: nn.Module, on: bool) -> None:
    try:
        cast(Any, model).set_grad_checkpointing(on)
    except (AttributeError, AssertionError) as error:  # timm asserts where a family has none
        wrong = f"gradient_checkpointing: timm cannot checkpoint {type(model).__name__}; allowed: false"
        raise StageError("train", "unsupported", wrong) from error
