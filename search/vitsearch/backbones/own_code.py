"""The function of a user that makes a network: imported, called, and its failures in one line each.

Only workers and the process that examines a network call it, because importing a module runs it.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from vitsearch.backbones.valid_sizes import img_size
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork
from vitsearch.errors import NetworkError
from vitsearch.models.computed_weights import fold
from vitsearch.own_module import ImportProblem, described, import_own
from vitsearch.structure.head_rules.multihead import with_cut_heads
from vitsearch_agent.base.canonical_json import digest, file_digest

GIVEN = ("classes", "channels", "resolution")
"""What a function may take, by name."""
SEED = 0
INSTALLED = "site-packages"


def parameters_of(network: PythonNetwork) -> frozenset[str]:
    """List which of `GIVEN` the function of a network takes.

    Args:
        network: The network.

    Returns:
        Their names.

    Raises:
        NetworkError: The function cannot be imported, or needs something else.
    """
    parameters = inspect.signature(_function(network)).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return frozenset(GIVEN)
    for parameter in parameters:
        is_needed = parameter.default is parameter.empty and parameter.kind != parameter.VAR_POSITIONAL
        if is_needed and (parameter.name not in GIVEN or parameter.kind == parameter.POSITIONAL_ONLY):
            raise NetworkError(
                f"{_named(network)} needs {parameter.name!r}, which vitsearch does not give; "
                f"it gives {', '.join(GIVEN)} by name"
            )
    return frozenset(parameter.name for parameter in parameters) & frozenset(GIVEN)


def make(network: PythonNetwork, *, classes: int, channels: int, resolution: ImageSize) -> nn.Module:
    """Make a network whose heads and widths can be cut: attentions of torch and computed weights are made plain.

    Args:
        network: The network.
        classes: The number of logits.
        channels: Channels of the images.
        resolution: The size of the images.

    Returns:
        The module of `make_as_written`, which gives the same for any images, but for rounding.

    Raises:
        NetworkError: The function cannot be imported, fails, or returns something else.
    """
    made = make_as_written(network, classes=classes, channels=channels, resolution=resolution)
    return with_cut_heads(fold(made))


def make_as_written(network: PythonNetwork, *, classes: int, channels: int, resolution: ImageSize) -> nn.Module:
    """Call the function of a network, with those of the arguments that it takes.

    Args:
        network: The network.
        classes: The number of logits.
        channels: Channels of the images.
        resolution: The size of the images. The function gets the side of square ones, height and width of others.

    Returns:
        The module in evaluation mode, with weights that are drawn from fixed seeds of torch, numpy and `random`.

    Raises:
        NetworkError: The function cannot be imported, fails, or returns something else.
    """
    function, accepted = _function(network), parameters_of(network)
    arguments = {"classes": classes, "channels": channels, "resolution": img_size(resolution)}
    with _seeded():
        try:
            model = function(**{name: value for name, value in arguments.items() if name in accepted})
        except Exception as error:
            raise NetworkError(f"{_named(network)} failed: {described(error)}") from error
    if not isinstance(model, nn.Module):
        raise NetworkError(f"{_named(network)} returned {type(model).__name__}, not a torch.nn.Module")
    return model.eval()


@contextmanager
def _seeded() -> Iterator[None]:
    """Code in it draws the same numbers each time; code after it what it would have drawn."""
    own, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        random.seed(SEED)
        np.random.seed(SEED)
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(of_numpy)


def code_digest(network: PythonNetwork, model: nn.Module) -> str:
    """Name the code of a network: its function, the package of it, what was imported from its folder, and its classes.

    Args:
        network: The network.
        model: A model that its function has made.

    Returns:
        SHA-256 of the function's name and the source files, without those of torch and of packages that are installed
        below the folder, in hexadecimal.
    """
    package = network.entry.partition(":")[0].partition(".")[0]
    classes = {cls.__module__ for module in model.modules() for cls in type(module).__mro__}
    files = set()
    for name, module in [*sys.modules.items()]:
        file, top = Path(getattr(module, "__file__", None) or ""), name.partition(".")[0]
        if top == package or (name in classes and top != "torch") or _lies_in(file, network.folder):
            files.add(file)
    return digest([network.entry, *sorted(file_digest(str(file)) for file in files if file.is_file())])


def _lies_in(file: Path, folder: str) -> bool:
    return bool(folder) and INSTALLED not in file.parts and file.resolve().is_relative_to(Path(folder).resolve())


def _named(network: PythonNetwork) -> str:
    return f"{network.name}: {network.entry}"


@cache
def _function(network: PythonNetwork) -> Callable[..., Any]:
    module_name, _, name = network.entry.partition(":")
    try:
        module = import_own(module_name, network.folder)
    except ImportProblem as problem:
        raise NetworkError(f"{_named(network)}: {problem}") from problem
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(sorted(key for key, value in vars(module).items() if _is_own_function(value, module)))
        raise NetworkError(f"{_named(network)}: {module.__file__} has no function {name!r}; it has {there or 'none'}")
    return function  # type: ignore[no-any-return]


def _is_own_function(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__
