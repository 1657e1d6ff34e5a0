"""The function of a user that makes a network: imported, called, and its failures in one line each.

Only workers and the process that examines a network call it, because importing a module runs it.
"""

from __future__ import annotations

import importlib
import inspect
import socket
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vitsearch.backbones.weights_file import first_line
from vitsearch.core.networks import PythonNetwork
from vitsearch.errors import NetworkError
from vitsearch_agent.base.canonical_json import digest, file_digest

GIVEN = ("classes", "channels", "resolution")
"""What a function may take, by name."""
SEED = 0


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


def make(network: PythonNetwork, **arguments: int) -> nn.Module:
    """Call the function of a network.

    Args:
        network: The network.
        **arguments: Values of `GIVEN`; those that the function does not take are left out.

    Returns:
        The module in evaluation mode, with weights that are drawn from a fixed seed.

    Raises:
        NetworkError: The function cannot be imported, fails, or returns something else.
    """
    function, accepted = _function(network), parameters_of(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            model = function(**{name: value for name, value in arguments.items() if name in accepted})
        except Exception as error:
            raise NetworkError(f"{_named(network)} failed: {_where(error)}") from error
    if not isinstance(model, nn.Module):
        raise NetworkError(f"{_named(network)} returned {type(model).__name__}, not a torch.nn.Module")
    return model.eval()


def code_digest(model: nn.Module) -> str:
    """Name the code of the classes of a model, without those of torch.

    Args:
        model: A model.

    Returns:
        SHA-256 of the source files of its classes, in hexadecimal.
    """
    modules = {type(module).__module__ for module in model.modules()}
    sources = (
        getattr(sys.modules.get(name), "__file__", None) for name in modules if name.partition(".")[0] != "torch"
    )
    return digest(sorted(file_digest(source) for source in sources if source is not None))


def _named(network: PythonNetwork) -> str:
    return f"{network.name}: {network.entry}"


@cache
def _function(network: PythonNetwork) -> Callable[..., Any]:
    module_name, _, name = network.entry.partition(":")
    module = _module(network, module_name)
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(sorted(key for key, value in vars(module).items() if _is_own_function(value, module)))
        raise NetworkError(f"{_named(network)}: {module.__file__} has no function {name!r}; it has {there or 'none'}")
    return function  # type: ignore[no-any-return]


def _is_own_function(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__


def _module(network: PythonNetwork, name: str) -> ModuleType:
    if network.folder not in sys.path:
        sys.path.append(network.folder)  # behind the packages that are installed: it must not replace one
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        here = f"on {socket.gethostname()}"
        if error.name is not None and name.startswith(error.name):
            wanted = f"neither installed there nor in {network.folder}"
            raise NetworkError(f"{_named(network)}: there is no module {error.name!r} {here}: {wanted}") from error
        raise NetworkError(f"{_named(network)} cannot be imported {here}: it needs {error.name!r}") from error
    except Exception as error:
        raise NetworkError(f"{_named(network)} cannot be imported: {_where(error)}") from error
    _refuse_namesake(network, name, module)
    return module


def _refuse_namesake(network: PythonNetwork, name: str, module: ModuleType) -> None:
    """A module of the folder that is hidden by an installed one of the same name."""
    top = Path(network.folder, name.partition(".")[0])
    is_in_folder = top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()
    source = Path(module.__file__ or "").resolve()
    if is_in_folder and Path(network.folder).resolve() not in source.parents:
        raise NetworkError(
            f"{_named(network)}: {source} is imported instead of the module {name.partition('.')[0]!r} in "
            f"{network.folder}; give that one a name that no installed package has"
        )


def _where(error: Exception) -> str:
    """The error, and the last line of code outside of libraries."""
    if isinstance(error, SyntaxError):  # which names the file and the line itself
        return f"{type(error).__name__}: {first_line(error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    last = frames[-1] if frames else None
    place = f" ({Path(last.filename).name} line {last.lineno})" if last is not None else ""
    return f"{type(error).__name__}: {first_line(error)}{place}"
