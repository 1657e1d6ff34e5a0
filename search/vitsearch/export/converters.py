"""Converters that need an environment of their own, because they pin libraries that vitsearch has in other versions.

`vitsearch install-converter NAME` makes such an environment, once for a user, in

    $VITSEARCH_CONVERTERS/NAME                     or, without that variable,
    ~/.cache/vitsearch/converters/NAME             the user's folder for files that may be lost

A run never installs anything: it says which command does. An environment counts as installed once a model was
converted in it; until then a later command makes it anew.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from vitsearch.core import targets
from vitsearch.errors import ResourceError, StageError, UnknownName
from vitsearch_agent.base.system import user_cache_folder

FOLDER_VARIABLE = "VITSEARCH_CONVERTERS"
INSTALLED = "installed.json"
"""A file in the folder of a converter: the requirements that it was installed with."""
TIMEOUT_S = 3600.0
"""For one call of a converter. Large models take some minutes on a busy machine; a call that hangs must end."""
LAST_WORDS_MAX = 500


def folder_of(name: str) -> Path:
    """The folder of a converter's environment, whether or not it exists."""
    if name not in targets.converters():
        raise UnknownName("converter", name, targets.converters())
    root = os.environ.get(FOLDER_VARIABLE) or os.path.join(user_cache_folder(), "converters")
    return Path(root).expanduser() / name


def python_of(name: str) -> Path:
    """The Python of a converter's environment, whether or not it exists."""
    return folder_of(name) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def requirements_of(name: str) -> tuple[str, ...]:
    """What the environment must hold today. A torch has our own minor version, because it reads what ours writes."""
    converter = targets.converters()[name]
    if not converter.reads_torch:
        return converter.requirements
    major, minor, *_ = version("torch").split(".")
    return (*converter.requirements, f"torch=={major}.{minor}.*")


def converter_missing(name: str) -> str | None:
    """Why the converter cannot be used, with the command that installs it; None when it can."""
    needed = f"run: vitsearch install-converter {name}"
    installed = _installed(name)
    if installed is None or not python_of(name).exists():
        return f"the {name} converter is not installed; {needed}"
    if installed != list(requirements_of(name)):
        return f"the {name} converter was installed for other versions ({', '.join(installed)}); {needed}"
    return None


def install(name: str, verify: Callable[[Path], None], say: Callable[[str], None]) -> None:
    """Make the environment of a converter, unless it is there; `verify` converts a model with the Python it is given.

    pip prints on the terminal what it does. `ResourceError` when a step fails.
    """
    folder, python = folder_of(name), python_of(name)
    if converter_missing(name) is None:
        say(f"The {name} converter is already installed in {folder}.")
        return
    say(f"Making an environment for the {name} converter in {folder}: {targets.converters()[name].size}.")
    _step([sys.executable, "-I", "-m", "venv", "--clear", str(folder)])
    _step([str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", *requirements_of(name)])
    say("Converting a small model to verify it.")
    try:
        verify(python)
    except StageError as error:
        raise ResourceError(f"the {name} converter was installed in {folder} but does not work: {error}") from error
    mark_installed(name)
    say(f"The {name} converter is installed.")


def mark_installed(name: str) -> None:
    """Record that the environment works, with its requirements."""
    (folder_of(name) / INSTALLED).write_text(json.dumps(requirements_of(name)))


def call(python: Path, script: Path, arguments: Sequence[str | Path], timeout_s: float = TIMEOUT_S) -> None:
    """Run a script of ours with a converter's Python.

    `StageError` `export` `crash` with the converter's last words when it fails, `timeout` when it takes
    too long. Its output is not shown otherwise.
    """
    command = [str(python), "-I", str(script), *map(str, arguments)]  # -I: our PYTHONPATH is not for its libraries
    what = f"{script.stem} {arguments[0]}"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise StageError("export", "timeout", f"{what} has not finished after {timeout_s:g} s") from error
    except OSError as error:
        raise StageError("export", "crash", f"{what} cannot be started: {error}") from error
    if done.returncode:
        raise StageError("export", "crash", f"{what}: {_last_words(done)}")


def _installed(name: str) -> list[str] | None:
    try:
        requirements = json.loads((folder_of(name) / INSTALLED).read_text())
    except (OSError, ValueError):
        return None
    return requirements if isinstance(requirements, list) else None


def _step(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except (subprocess.CalledProcessError, OSError) as error:
        raise ResourceError(f"this step failed, its reason is above: {shlex.join(command)}\n{error}") from error


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    words = said[-1][:LAST_WORDS_MAX] if said else "it said nothing"
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return f"{words} ({ended})"
