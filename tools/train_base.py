"""Train one of the bases that quickstart and tests start from: a small model on Fashion-MNIST.

    PYTHONPATH=search:evaluators python tools/train_base.py --base NAME --source DIR

DIR is that of `make_fashion_mnist_14k.py`. `vitsearch.backbones.builtin` defines NAME (architecture, resolution,
file), `RECIPES` below its training. It uses the official training set without the 2,000 validation images, one
thread, and phases with a budget of CPU-seconds each. Budgets are times, so two runs differ slightly; the card next to
the weights describes the run and the accuracy of the stored weights (fp16).

Each batch is resized to a random one of the resolutions of its phase, so that a base keeps most of its accuracy where a
plan changes the resolution (as Beyer et al. 2023 do with patch sizes).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import nn

from vitsearch.backbones.builtin import BUILTIN, BuiltinBase
from vitsearch.compress import batch_norms
from vitsearch.core.image_size import ImageSize
from vitsearch.data.fashion_mnist import SUBSET_ASSET, full_split, subset_split
from vitsearch.data.splits import Split
from vitsearch.data.tensors import to_tensor
from vitsearch.training import inference
from vitsearch_agent.base.canonical_json import file_digest

BATCH = 128
WARMUP_STEPS = 30
WEIGHT_DECAY = 0.05
BATCH_NORM_BATCHES = 100


@dataclass(frozen=True)
class Phase:
    """One phase. A resolution is drawn from `resolutions` for each batch; one that is listed twice comes twice as
    often.

    `arguments` override those of the base in the constructor.
    """

    name: str
    cpu_seconds: float
    lr: float
    resolutions: tuple[int, ...]
    decays: bool = True
    flips: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a base is trained. `sized`: the constructor has an argument `img_size`.

    `optimizer` `muon`: Muon (Jordan 2024) for the 2-D weights of the blocks, AdamW for the rest; `adamw`: AdamW
    for all weights, without decay on vectors.
    """

    optimizer: Literal["muon", "adamw"]
    precision: Literal["bf16", "fp32"]
    phases: tuple[Phase, ...]
    sized: bool = False


# A: only at the native resolution. B: also at resolutions that spaces use, with linear decay.
CONVOLUTIONAL = Recipe(
    "adamw",
    "fp32",  # bf16 autocast halves the speed of small convolutions on this kind of processor
    (
        Phase("A", 240, 3e-3, (28,), decays=False, flips=True),
        Phase("B", 300, 3e-3, (20, 24, 28, 28, 32), flips=True),
    ),
)
RECIPES: Mapping[str, Recipe] = {
    # A: 16 tokens, cheap, most of the progress. B: 49 tokens or fewer, half of them dropped at random.
    # C: all tokens; the linear decay alone gains 2 to 3 points.
    "vit_fmnist_p4": Recipe(
        "muon",
        "bf16",
        (
            Phase("A", 120, 3e-3, (28,), decays=False, arguments={"patch_size": 7}),
            Phase("B", 210, 2e-3, (20, 24, 28), decays=False, arguments={"patch_drop_rate": 0.5}),
            Phase("C", 360, 1.2e-3, (20, 24, 28, 28)),
        ),
        sized=True,
    ),
    "efficientvit_fmnist": CONVOLUTIONAL,
    # Slower than efficientvit_fmnist: the same epochs take three times as long.
    "mobilevit_fmnist": Recipe(
        "adamw",
        "fp32",
        (
            Phase("A", 450, 3e-3, (28,), decays=False, flips=True),
            Phase("B", 1050, 3e-3, (20, 24, 28, 28, 28, 28), flips=True),
        ),
    ),
}


def make_model(base: BuiltinBase, recipe: Recipe, phase: Phase, before: nn.Module | None) -> nn.Module:
    """A new model, with the weights of `before` if given; patch and position tables are resampled where they
    differ."""
    sized = {"img_size": base.resolution.height, "dynamic_img_size": True} if recipe.sized else {}
    arguments = {**base.arguments, **sized, **phase.arguments}
    model: Any = timm.create_model(base.architecture, in_chans=base.channels, num_classes=base.classes, **arguments)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # the fused backward pass is slower than the plain one on a CPU
    if before is not None:
        model.load_state_dict(resampled(before.state_dict(), model))
    trained: nn.Module = model.to(memory_format=torch.channels_last)  # makes convolutions 1.1 times faster
    return trained


def resampled(state: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """`state` with the patch embedding and position table of a ViT in the sizes of `model`."""
    wanted = model.state_dict()
    patch = wanted.get("patch_embed.proj.weight")
    if patch is None or patch.shape == state["patch_embed.proj.weight"].shape:
        return state
    side = round((wanted["pos_embed"].shape[1] - 1) ** 0.5)
    return state | {
        "patch_embed.proj.weight": resample_patch_embed(state["patch_embed.proj.weight"], list(patch.shape[2:])),
        "pos_embed": resample_abs_pos_embed(state["pos_embed"], [side, side], num_prefix_tokens=1),
    }


def optimizers(model: nn.Module, kind: str, lr: float) -> list[torch.optim.Optimizer]:
    if kind == "adamw":
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        decaying = {"params": matrices, "weight_decay": WEIGHT_DECAY}
        return [torch.optim.AdamW([decaying, {"params": vectors, "weight_decay": 0.0}], lr=lr)]
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.0),
    ]


class Batches:
    """Endless batches of `data`; every image comes once, in random order, before any comes again."""

    def __init__(self, base: BuiltinBase, data: Split, rng: np.random.Generator) -> None:
        self._base, self._data, self._rng = base, data, rng
        self._order = np.empty(0, dtype=np.int64)

    def next(self, phase: Phase) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (BATCH, C, H, W) at one of the resolutions of `phase`, and labels (BATCH,)."""
        if len(self._order) < BATCH:
            self._order = np.concatenate([self._order, self._rng.permutation(len(self._data))])
        batch, self._order = self._order[:BATCH], self._order[BATCH:]
        images = self._data.images[batch]
        if phase.flips:
            flipped = self._rng.random(BATCH) < 0.5
            images[flipped] = images[flipped, :, ::-1]
        resolution = int(self._rng.choice(phase.resolutions))
        inputs = to_tensor(images, ImageSize.square(resolution), self._base.preprocessing)
        return inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(self._data.labels[batch])


def run_phase(model: nn.Module, recipe: Recipe, phase: Phase, batches: Batches) -> tuple[int, float]:
    """Run one phase; returns the steps taken and the CPU-seconds used."""
    model.train()
    group = optimizers(model, recipe.optimizer, phase.lr)
    start, step = time.process_time(), 0
    while (used := time.process_time() - start) < phase.cpu_seconds:
        share = min(1.0, (step + 1) / WARMUP_STEPS) * ((1 - used / phase.cpu_seconds) if phase.decays else 1)
        for settings in (settings for optimizer in group for settings in optimizer.param_groups):
            settings["lr"] = phase.lr * share
        model.zero_grad(set_to_none=True)
        inputs, labels = batches.next(phase)
        with autocast(recipe):
            logits = model(inputs)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in group:
            optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"{phase.name} step {step} {used:.0f} CPU-s loss {loss.item():.3f}", flush=True)
    return step, time.process_time() - start


def autocast(recipe: Recipe) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if recipe.precision == "bf16" else nullcontext()


def accuracy(model: nn.Module, base: BuiltinBase, data: Split, resolution: int) -> float:
    size = ImageSize.square(resolution)
    return inference.accuracy(inference.predict_logits(model, data.images, size, base.preprocessing), data.labels)


def train_base(base: BuiltinBase, recipe: Recipe, data: Split, seed: int) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The trained model with weights rounded to fp16, and a report of each phase."""
    torch.manual_seed(seed)
    batches, validation = Batches(base, data, np.random.default_rng(seed)), subset_split("validation")
    model, ran = None, []
    for phase in recipe.phases:
        model = make_model(base, recipe, phase, model)
        steps, used = run_phase(model, recipe, phase, batches)
        native = Phase(
            "batch norms", 0, 0, (base.resolution.height,)
        )  # statistics over several resolutions fit none of them
        batch_norms.recalibrate(model, (batches.next(native)[0] for _ in range(BATCH_NORM_BATCHES)))
        score = accuracy(model, base, validation, base.resolution.height)
        print(f"phase {phase.name}: {steps} steps, {used:.0f} CPU-s, validation {score:.4f}", flush=True)
        ran.append(asdict(phase) | {"steps": steps, "cpu_seconds_used": round(used, 1), "validation": score})
    assert model is not None
    return model.half().float(), ran


def write(model: nn.Module, name: str, options: argparse.Namespace, data: Split, ran: list[dict[str, Any]]) -> None:
    """Write the fp16 weights and their card; its accuracies are those of the stored weights."""
    base, recipe = BUILTIN[name], RECIPES[name]
    output: Path = options.output_folder / base.asset
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    state = {key: value.contiguous() for key, value in state.items()}
    save_file(state, output, metadata={"format": "pt", "license": "MIT"})
    output.chmod(0o644)  # save_file creates it as private
    splits = {name: subset_split(name) for name in ("validation", "test")}
    splits["official_test"] = full_split(options.source, "test")
    tried = sorted({base.resolution.height, *(size for phase in recipe.phases for size in phase.resolutions)})
    scores = {name: accuracy(model, base, split, base.resolution.height) for name, split in splits.items()}
    sizes = {f"{name}_images": len(split) for name, split in splits.items()}
    at_resolutions = {str(size): accuracy(model, base, splits["validation"], size) for size in tried}
    sized = {"img_size": base.resolution.height} if recipe.sized else {}
    card = {
        "model": {"create": base.architecture, "in_chans": base.channels, "num_classes": base.classes}
        | sized
        | dict(base.arguments),
        "resolution": base.resolution.to_json(),
        "normalisation": {"mean": list(base.preprocessing.mean), "std": list(base.preprocessing.std)},
        "weights_sha256": file_digest(str(output)),
        "command": f"python tools/train_base.py --base {name} --source DIR --seed {options.seed}",
        "recipe": {
            "optimizer": recipe.optimizer,
            "batch_size": BATCH,
            "warmup_steps": WARMUP_STEPS,
            "weight_decay": WEIGHT_DECAY,
            "precision": f"{recipe.precision}, 1 thread",
            "phases": ran,
        },
        "cpu_seconds": round(sum(phase["cpu_seconds_used"] for phase in ran), 1),
        "accuracy": scores | sizes | {"validation_at_resolution": at_resolutions},
        "data": {"training_images": len(data), "subset_sha256": file_digest(str(SUBSET_ASSET))},
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "license": "MIT; see FASHION_MNIST_LICENSE.txt",
    }
    output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["accuracy"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=sorted(RECIPES), required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-folder", type=Path, default=SUBSET_ASSET.parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = full_split(options.source, "train")
    model, ran = train_base(BUILTIN[options.base], RECIPES[options.base], data, options.seed)
    write(model, options.base, options, data, ran)


if __name__ == "__main__":
    main()
