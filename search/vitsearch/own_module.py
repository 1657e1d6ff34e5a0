"""A module that a user brings: imported by its name, from a folder or as installed, and what goes wrong in one line."""

from __future__ import annotations

import importlib
import socket
import sys
import traceback
from pathlib import Path
from types import ModuleType

from vitsearch.errors import with_type


class ImportProblem(Exception):
    """Why a module cannot be imported; whoever asked for it adds what it is for."""


def import_own(name: str, folder: str = "") -> ModuleType:
    """Import a module of a user; importing runs it.

    Args:
        name: Its name.
        folder: Where it may be, beside what is installed; empty for nowhere else.

    Returns:
        The module.

    Raises:
        ImportProblem: It is not there, needs what is not there, fails, or is hidden by another one of its name.
    """
    if folder and folder not in sys.path:
        sys.path.append(folder)  # behind the packages that are installed: it must not replace one
    importlib.invalidate_caches()
    here = f"on {socket.gethostname()}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            nowhere = f"neither installed there nor in {folder}" if folder else "it is not installed there"
            raise ImportProblem(f"there is no module {error.name!r} {here}: {nowhere}") from error
        raise ImportProblem(f"module {name!r} cannot be imported {here}: it needs {error.name!r}") from error
    except Exception as error:  # the module is the user's own, and raises what it likes
        raise ImportProblem(f"module {name!r} cannot be imported: {described(error)}") from error
    _refuse_namesake(name, folder, module)
    return module


def described(error: Exception) -> str:
    """Name an error of a user's code, and the last line of code outside of libraries."""
    text = with_type(error)
    if isinstance(error, SyntaxError):  # which names the file and the line itself
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{text} ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else text


def _refuse_namesake(name: str, folder: str, module: ModuleType) -> None:
    """A module of the folder that is hidden by an installed one of the same name."""
    if not folder:
        return
    top = Path(folder, name.partition(".")[0])
    is_in_folder = top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()
    source = Path(module.__file__ or "").resolve()
    if is_in_folder and Path(folder).resolve() not in source.parents:
        raise ImportProblem(
            f"{source} is imported instead of the module {top.name!r} in {folder}; give that one a name that no "
            "installed package has"
        )
