"""Gradient steps and accuracy in torch: pure functions over modules, no ray, no database.

A study draws one pool of training images (:func:`training_pool`), so that a teacher's logits are
computed once for all plans; every rung of every plan then reads its own stretch of one seeded
order of that pool (:func:`training_order`).

What makes this fast on a CPU (``tools/measure_training.py`` measures it): bf16 autocast where the
processor multiplies bf16, attention that is not fused (the fused backward is slower up to some 200
tokens), cached teacher logits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from timm.optim import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn
from torch.nn import functional

from vitsearch.data.arrays import Bytes, Floats, Labels
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError
from vitsearch.plan import Recipe

Precision = Literal["fp32", "bf16"]
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, eq=False)
class FineTuneTask:
    """What one rung trains on.

    ``images`` uint8 (N, H, W, C) and ``labels`` (N,) are the study's pool; ``teacher_logits``
    float32 (N, classes), row for row, or ``None`` to learn from labels alone. ``epochs`` are
    trained, after the ``epochs_before`` that earlier rungs have seen; an epoch is at most
    ``recipe.images_per_epoch`` images. ``mean`` and ``std`` per channel, of pixels in [0, 1].
    """

    images: Bytes
    labels: Labels
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: Recipe
    epochs: float
    teacher_logits: Floats | None = None
    epochs_before: float = 0.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        lengths = {"images": len(self.images), "labels": len(self.labels)}
        if self.teacher_logits is not None:
            lengths["teacher_logits"] = len(self.teacher_logits)
        if len(set(lengths.values())) != 1 or not len(self.images):
            raise ValueError(f"one row for each image is needed, got {lengths}")
        if self.epochs <= 0 or self.epochs_before < 0:
            raise ValueError(f"epochs {self.epochs} after {self.epochs_before}: nothing to train")


@dataclass(frozen=True)
class TrainReport:
    """``images`` seen in ``steps``; losses are means over the first and the last tenth of the steps;
    ``cpu_seconds`` of this process, all threads (on a GPU: the host's share)."""

    steps: int
    images: int
    loss_first: float
    loss_last: float
    cpu_seconds: float


def training_pool(n: int, recipe: Recipe) -> Labels:
    """Ascending indices of the training images, out of ``n``, that any rung of ``recipe`` can see.

    A seeded draw of ``images_per_epoch`` times the last rung, or all ``n`` where that is less.
    """
    count = min(n, recipe.images_per_epoch * max(max(recipe.rungs), 1))
    return np.sort(np.random.default_rng(recipe.seed).permutation(n)[:count]).astype(np.int64)


def training_order(pool: int, recipe: Recipe, epochs_before: float, epochs: float) -> Labels:
    """Positions in a pool of ``pool`` images, in the order in which a rung sees them.

    All rungs read one endless stream of seeded permutations, each from where the one before it
    stopped, so no image comes twice before each has come once.
    """
    per_epoch = min(pool, recipe.images_per_epoch)
    start, stop = round(epochs_before * per_epoch), round((epochs_before + epochs) * per_epoch)
    passes = range(start // pool, -(-max(stop, start + 1) // pool))
    stream = np.concatenate([np.random.default_rng([recipe.seed, p]).permutation(pool) for p in passes])
    offset = start - passes.start * pool
    return stream[offset : offset + max(stop - start, 1)].astype(np.int64)


def fine_tune(model: nn.Module, task: FineTuneTask) -> TrainReport:
    """Train ``model`` in place and leave it in evaluation mode on ``task.device``.

    AdamW (no decay on biases, norms and what the model exempts), linear warm-up then cosine to 0,
    gradient norm at most 1, loss ``(1 - w) CE + w T^2 KL(teacher || model)`` at temperature ``T``
    (Hinton et al. 2015). The same task and weights give the same weights again on one machine.
    The batches of a rung are of nearly equal size, none of 1 (batch norm). :class:`StageError`
    ``('train', 'not_finite')`` when a loss or a gradient is not finite.
    """
    recipe, begin = task.recipe, time.process_time()
    order = training_order(len(task.images), recipe, task.epochs_before, task.epochs)
    batches = np.array_split(order, math.ceil(len(order) / recipe.batch_size))
    model.to(task.device).train()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = _schedule(optimizer, len(batches), recipe)
    losses = []
    with _seeded(recipe.seed, task), _unfused_attention(model, task.device):
        for step, batch in enumerate(batches):
            schedule.step_update(step)
            optimizer.zero_grad(set_to_none=True)
            loss = _loss(model, task, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            losses.append(_finite(loss, norm, step, len(batches), recipe.lr))
            optimizer.step()
    model.eval()
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    return TrainReport(len(losses), len(order), first, last, time.process_time() - begin)


def predict_logits(
    model: nn.Module,
    images: Bytes,
    resolution: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int = 256,
    precision: Precision = "fp32",
) -> Floats:
    """float32 (N, classes) for uint8 (N, H, W, C), on the device of the model.

    ``model`` is in evaluation mode while it predicts and gets its mode back. ``bf16`` is autocast:
    for teachers and quick looks; reported accuracies are fp32.
    """
    device = next(model.parameters()).device
    cast = torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), cast:
            parts = [
                model(to_tensor(images[at : at + batch_size], resolution, mean, std, device)).float().cpu()
                for at in range(0, len(images), batch_size)
            ]
    finally:
        model.train(was_training)
    logits: Floats = torch.cat(parts).numpy()
    return logits


def accuracy(logits: Floats, labels: Labels) -> float:
    """Share of rows of (N, classes) whose largest logit is the label's, in [0, 1]."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def kl_divergence(base_logits: Floats, logits: Floats) -> float:
    """Mean over rows of ``KL(softmax(base) || softmax(model))`` in nats; 0 when they agree."""
    base, model = (_log_softmax(values.astype(np.float64)) for values in (base_logits, logits))
    return max(0.0, float((np.exp(base) * (base - model)).sum(axis=1).mean()))


def training_precision(device: str) -> Precision:
    """``bf16`` where the device multiplies it in hardware, else ``fp32``."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _loss(model: nn.Module, task: FineTuneTask, batch: Labels) -> torch.Tensor:
    inputs = to_tensor(task.images[batch], task.resolution, task.mean, task.std, task.device)
    with _autocast(task.device):
        logits = model(inputs)
    logits = logits.float()
    loss = functional.cross_entropy(logits, torch.tensor(task.labels[batch], device=task.device))
    weight = task.recipe.distillation_weight
    if task.teacher_logits is None or not weight:
        return loss
    temperature = task.recipe.temperature
    teacher = torch.tensor(task.teacher_logits[batch], device=task.device)
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - weight) * loss + weight * temperature**2 * divergence


def _schedule(optimizer: torch.optim.Optimizer, steps: int, recipe: Recipe) -> CosineLRScheduler:
    warmup = min(recipe.warmup_steps, steps // 4)
    return CosineLRScheduler(
        optimizer,
        t_initial=steps - warmup,
        warmup_t=warmup,
        warmup_lr_init=recipe.lr / max(warmup, 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )


def _finite(loss: torch.Tensor, norm: torch.Tensor, step: int, steps: int, lr: float) -> float:
    value = float(loss.detach())
    if math.isfinite(value) and math.isfinite(float(norm)):
        return value
    seen = f"loss {value}, gradient norm {float(norm)} at step {step + 1} of {steps}"
    raise StageError("train", "not_finite", f"{seen}; a lower lr than {lr:g} may help")


def _autocast(device: str) -> AbstractContextManager[object]:
    if training_precision(device) == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


@contextmanager
def _seeded(seed: int, task: FineTuneTask) -> Iterator[None]:
    """Dropout and drop path follow ``seed``; the caller's random state is as it was afterwards."""
    device = torch.device(task.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _unfused_attention(model: nn.Module, device: str) -> Iterator[None]:
    fused = [m for m in model.modules() if getattr(m, "fused_attn", False) is True and device == "cpu"]
    for module in fused:
        setattr(module, "fused_attn", False)  # noqa: B010 - Module has no such attribute to the type checker
    try:
        yield
    finally:
        for module in fused:
            setattr(module, "fused_attn", True)  # noqa: B010
