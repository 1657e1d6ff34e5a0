"""Starting weights: from the hub, a file, the project's own bases, or drawn by a seed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from vitsearch_evaluators.canonical import digest, file_digest

from vitsearch.backbones.base import Built, ModelSpec
from vitsearch.backbones.builtin import BUILTIN, asset
from vitsearch.errors import WeightsError

SEED = 0


def digest_of(spec: ModelSpec) -> str:
    """The sha256 of the weights file; for the hub, of timm's description of what it would load."""
    if path := file_of(spec):
        return file_digest(str(path))
    if spec.weights == "hub":
        cfg = timm.get_pretrained_cfg(spec.backbone)
        told = {"hub": spec.backbone, "id": cfg.hf_hub_id if cfg else None, "tag": cfg.tag if cfg else None}
        return digest(told)
    return digest({"random": spec.backbone, "seed": SEED})


def file_of(spec: ModelSpec) -> Path | None:
    """The local file behind ``builtin`` or ``file:PATH``; :class:`WeightsError` when it is not there."""
    if spec.weights == "builtin":
        if spec.backbone not in BUILTIN:
            raise WeightsError(
                f"{spec.backbone} has no builtin weights; builtin bases: {', '.join(BUILTIN)}. Use hub, none or file:PATH"
            )
        path = asset(spec.backbone)
    elif spec.weights.startswith("file:"):
        path = Path(spec.weights.removeprefix("file:")).expanduser()
    else:
        return None
    if not path.is_file():
        raise WeightsError(f"weights of {spec.backbone}: {path} is not a file")
    return path


def create(spec: ModelSpec, **arguments: Any) -> Built:
    """Build through timm, whose own filters fit position tables to another resolution.

    ``arguments`` are the architecture's. A classifier for another number of classes is drawn anew.
    """
    builtin = BUILTIN.get(spec.backbone)
    name = builtin.architecture if builtin else spec.backbone
    arguments = (builtin.arguments if builtin else {}) | arguments
    arguments |= {"num_classes": spec.classes, "in_chans": spec.channels}
    path = file_of(spec)
    torch.manual_seed(SEED)
    if path is None and spec.weights != "hub":
        model = timm.create_model(name, pretrained=False, **arguments)
        redraw_zero_norms(model)
        return Built(model.eval(), head_is_new=True)
    overlay: dict[str, Any] | None = None
    stored = timm.get_pretrained_cfg_value(name, "num_classes")
    if path is not None:
        state = read_state(path)
        stored = _classes(state, timm.get_pretrained_cfg_value(name, "classifier"))
        # timm compares these with the model asked for: a classifier that fits is kept, another is dropped.
        overlay = {"state_dict": state, "num_classes": stored}
        if builtin:
            overlay |= {"input_size": (builtin.channels, builtin.resolution, builtin.resolution)}
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        where = str(path) if path else "the hub"
        raise WeightsError(f"weights of {spec.backbone} from {where} do not fit: {_first_lines(error)}") from error
    return Built(model.eval(), head_is_new=stored != spec.classes)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict as float32, from safetensors or a torch checkpoint (tensors only, nothing is executed)."""
    try:
        state = load_file(path) if _is_safetensors(path) else torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{path} is neither a safetensors file nor a torch checkpoint: {_first_lines(error)}") from error
    for wrapper in ("model", "state_dict"):
        state = state.get(wrapper, state)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _is_safetensors(path: Path) -> bool:
    """By content: files in the artifact store have no suffix. A header's length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _classes(state: dict[str, torch.Tensor], classifier: str | tuple[str, ...] | None) -> int:
    """How many classes the weights were trained on; 0 when they have no classifier."""
    name = classifier if isinstance(classifier, str) else (classifier or ("head",))[0]
    weight = state.get(f"{name}.weight")
    return int(weight.shape[0]) if weight is not None else 0


def redraw_zero_norms(model: nn.Module) -> None:
    """timm initialises the last norm of some residual branches with zeros; converters delete such branches.

    Untrained models are only measured, so their all-zero norm weights are drawn from U(0.5, 1).
    """
    for module in model.modules():
        weight = getattr(module, "weight", None)
        is_norm = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm)
        if is_norm and isinstance(weight, nn.Parameter) and not weight.any():
            nn.init.uniform_(weight, 0.5, 1.0)


def _first_lines(error: Exception, lines: int = 4) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:lines])
