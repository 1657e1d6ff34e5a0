"""Train the base that quickstart and tests start from: a small ViT on Fashion-MNIST, in about 11 CPU-minutes.

    PYTHONPATH=search:evaluators python tools/train_base.py --source DIR

DIR as in ``make_fashion_mnist_14k.py``. Trained on the official training set without the 2,000
validation images, no augmentation, one thread, in three phases with a budget of CPU-seconds each:

A  patch 7, 16 tokens: cheap, learns most;
B  weights resampled to patch 4, 49 tokens, half of them dropped at random;
C  all tokens, the rate falls linearly to 0 (worth 2 to 3 points).

Budgets are times, so two runs differ slightly; the card states what this run was. Muon (Jordan 2024)
moves the 2-D weights of the blocks, AdamW the rest; bf16 autocast, unfused attention.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import nn

from vitsearch.data.fashion_mnist import ASSETS, MEAN, STD, SUBSET_ASSET, full_split, subset_split
from vitsearch.data.splits import Split
from vitsearch_evaluators.canonical import file_digest

MODEL = {"img_size": 28, "in_chans": 1, "num_classes": 10, "embed_dim": 192, "depth": 6, "num_heads": 6}
OUTPUT = ASSETS / "vit_fmnist_p4.safetensors"
BATCH = 128
WARMUP_STEPS = 30


@dataclass(frozen=True)
class Phase:
    name: str
    patch: int
    token_drop: float
    lr: float
    decays: bool
    cpu_seconds: float


def make_model(phase: Phase, before: nn.Module | None) -> nn.Module:
    """A fresh model, or the one before, its patch and position tables resampled where they differ."""
    model = timm.create_model("vit_tiny_patch16_224", patch_size=phase.patch, patch_drop_rate=phase.token_drop, **MODEL)
    for block in model.blocks:
        block.attn.fused_attn = False  # the CPU's fused backward is slower than the plain one
    if before is not None:
        state = before.state_dict()
        patch, grid = [phase.patch] * 2, [28 // phase.patch] * 2
        weight = state["patch_embed.proj.weight"]
        if weight.shape[-1] != phase.patch:
            state["patch_embed.proj.weight"] = resample_patch_embed(weight, patch)
            state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], grid, num_prefix_tokens=1)
        model.load_state_dict(state)
    return model


def optimizers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.0),
    ]


def pixels(images: np.ndarray) -> torch.Tensor:
    values = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    return (values - MEAN[0]) / STD[0]


def train(model: nn.Module, data: Split, phase: Phase, rng: np.random.Generator) -> tuple[int, float]:
    """Steps taken and CPU-seconds used."""
    model.train()
    group = optimizers(model, phase.lr)
    start, step, order = time.process_time(), 0, np.empty(0, dtype=np.int64)
    while (used := time.process_time() - start) < phase.cpu_seconds:
        if len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(data))])
        batch, order = order[:BATCH], order[BATCH:]
        share = min(1.0, (step + 1) / WARMUP_STEPS) * ((1 - used / phase.cpu_seconds) if phase.decays else 1)
        for optimizer in group:
            optimizer.param_groups[0]["lr"] = phase.lr * share
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(pixels(data.images[batch]))
        loss = nn.functional.cross_entropy(logits.float(), torch.from_numpy(data.labels[batch]))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in group:
            optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"{phase.name} step {step} {used:.0f} CPU-s loss {loss.item():.3f}", flush=True)
    return step, time.process_time() - start


@torch.inference_mode()
def accuracy(model: nn.Module, data: Split) -> float:
    model.eval()
    hits = sum(
        int((model(pixels(data.images[at : at + 256])).argmax(1).numpy() == data.labels[at : at + 256]).sum())
        for at in range(0, len(data), 256)
    )
    return hits / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--cpu-seconds", type=float, nargs=3, default=(150.0, 330.0, 170.0), metavar=("A", "B", "C"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    a, b, c = options.cpu_seconds
    phases = (
        Phase("A", patch=7, token_drop=0.0, lr=3e-3, decays=False, cpu_seconds=a),
        Phase("B", patch=4, token_drop=0.5, lr=2e-3, decays=False, cpu_seconds=b),
        Phase("C", patch=4, token_drop=0.0, lr=1.2e-3, decays=True, cpu_seconds=c),
    )
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    data, validation = full_split(options.source, "train"), subset_split("validation")
    model, ran = None, []
    for phase in phases:
        model = make_model(phase, model)
        steps, used = train(model, data, phase, rng)
        score = accuracy(model, validation)
        print(f"phase {phase.name}: {steps} steps, {used:.0f} CPU-s, validation {score:.4f}", flush=True)
        ran.append(asdict(phase) | {"steps": steps, "cpu_seconds_used": round(used, 1), "validation": score})
    assert model is not None
    write(model, options, data, validation, ran)


def write(model: nn.Module, options: argparse.Namespace, data: Split, validation: Split, ran: list[dict]) -> None:
    """The fp16 weights and their card; accuracies are those of the weights as stored."""
    model.half().float()
    save_file(
        {name: value.half().contiguous() for name, value in model.state_dict().items()},
        options.output,
        metadata={"format": "pt", "license": "MIT"},
    )
    options.output.chmod(0o644)  # save_file makes it private
    official_test = full_split(options.source, "test")
    card = {
        "model": {"create": "vit_tiny_patch16_224", "patch_size": 4} | MODEL,
        "normalisation": {"mean": list(MEAN), "std": list(STD)},
        "weights_sha256": file_digest(str(options.output)),
        "command": "python tools/train_base.py --source DIR --cpu-seconds "
        + " ".join(f"{seconds:g}" for seconds in options.cpu_seconds),
        "seed": options.seed,
        "recipe": {
            "optimizer": "torch.optim.Muon for 2-D block weights, AdamW for the rest",
            "batch_size": BATCH,
            "warmup_steps": WARMUP_STEPS,
            "precision": "bf16 autocast, unfused attention, 1 thread",
            "phases": ran,
        },
        "cpu_seconds": round(sum(phase["cpu_seconds_used"] for phase in ran), 1),
        "accuracy": {
            "validation": accuracy(model, validation),
            "validation_images": len(validation),
            "test": accuracy(model, subset_split("test")),
            "test_images": len(subset_split("test")),
            "official_test": accuracy(model, official_test),
            "official_test_images": len(official_test),
        },
        "data": {"training_images": len(data), "subset_sha256": file_digest(str(SUBSET_ASSET))},
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "license": "MIT; see FASHION_MNIST_LICENSE.txt",
    }
    options.output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["accuracy"]))


if __name__ == "__main__":
    main()
