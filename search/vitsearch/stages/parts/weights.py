"""Weights that stages keep."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from vitsearch.compress.quantization import fake_quant
from vitsearch.storage.files import Store


def save_weights(model: nn.Module, store: Store) -> str:
    """Store the weights of a model; returns the digest of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        state = fake_quant.state_of(model).items()
        apart = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state}  # some may be tied
        save_file(apart, path)
        return store.put(path)
