"""Reading of weights files: safetensors and PyTorch checkpoints; anything else is refused with what the file holds."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vitsearch.errors import WeightsError, first_line

KEYS_SHOWN = 3
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    ArithmeticError, MemoryError, OSError, struct.error,
)  # fmt: skip
"""What torch.load raises for files that hold no tensors; its reader interprets their bytes as instructions."""
State = dict[str, torch.Tensor]
STATES = ("state_dict_ema", "model_ema", "state_dict", "model")
"""What checkpoints of trainings call their weights, in the order in which `read_state` looks for them. The first two
are averages over the last steps, with which timm evaluates too."""


def read_state(path: Path) -> State:
    """The tensors in `path`, floats as float32.

    Accepts safetensors (under any file name) and PyTorch state dicts, plain or under one of `STATES`. Does not execute
    code in the file. `WeightsError` for anything else.
    """
    state = _unpacked(path)
    if held := _states(state):
        state = state[held[0]]
    if not isinstance(state, dict) or not state or not all(_is_tensor_of_a_name(item) for item in state.items()):
        raise WeightsError(
            f"{path} holds no weights but {_content(state)}; expected is a state dict, which maps names to tensors"
        )
    try:
        return {
            key.removeprefix("module."): value.float() if value.is_floating_point() else value
            for key, value in state.items()
        }
    except NotImplementedError as error:  # torch has types that it can store and not read, such as float4
        raise WeightsError(f"{path} holds weights that cannot be read as float32: {first_line(error)}") from error


def choice_of_state(path: Path) -> str | None:
    """Say which weights of a file `read_state` takes.

    Args:
        path: Any file.

    Returns:
        A text; None where there is nothing to choose, or nothing that could be read.
    """
    try:
        content = _unpacked(path)
    except WeightsError:
        return None
    held = [key for key in _states(content) if all(map(_is_tensor_of_a_name, content[key].items()))]
    if len(held) < 2:
        return None
    listed = " and ".join([", ".join(held[:-1]), held[-1]])
    return f"{path} holds weights as {listed}: {held[0]} is used; for others, save them alone in a file"


def without_prefix(state: State, wanted: Iterable[str]) -> State:
    """The tensors under the names of a model, where the file has the model inside of another, such as Lightning's.

    Args:
        state: What a file holds.
        wanted: The names in the model.

    Returns:
        The tensors without what all their names begin with, if they fit then; else as they are.
    """
    prefix = os.path.commonprefix([*state])
    prefix = prefix[: prefix.rfind(".") + 1]
    names = {name.removeprefix(prefix): value for name, value in state.items()}
    return names if names.keys() == {*wanted} else state


def _states(content: Any) -> list[str]:
    """Those of `STATES` that a file has."""
    return [key for key in STATES if isinstance(content, dict) and isinstance(content.get(key), dict)]


def _unpacked(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        if is_safetensors:
            return load_file(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path} holds no weights, or is damaged: {first_line(error)}") from error
    except UNREADABLE as error:
        objects = isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path)
        why = (
            "it holds Python objects besides tensors, which could run code; save model.state_dict() instead"
            if objects
            else "it is neither a safetensors file nor a PyTorch checkpoint"
        )
        raise WeightsError(f"{path} holds no weights, or is damaged: {why}") from error


def _is_tensor_of_a_name(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def _content(state: Any) -> str:
    """What a file holds that is no state dict."""
    if not isinstance(state, dict):
        return f"a value of type {type(state).__name__}"
    return f"a mapping with the keys {some([*map(str, state)])}" if state else "an empty mapping"


def some(keys: list[str]) -> str:
    """The first of `keys` and the number of the others."""
    more = len(keys) - KEYS_SHOWN
    return ", ".join(keys[:KEYS_SHOWN]) + (f" and {more} more" if more > 0 else "")
