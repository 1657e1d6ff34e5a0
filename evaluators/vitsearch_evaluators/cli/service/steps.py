"""What installing does to a machine, as values: they are shown (`--dry-run`) or carried out, one after the other."""

import abc
import contextlib
import os
import shutil
from typing import NamedTuple, Optional, Sequence, Tuple

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.errors import EvaluatorError


class Step(abc.ABC):
    """One change. Paths are those of the device, as for `System`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return one line for a person."""

    def content(self) -> Optional[str]:
        """Return the text that is written, None where it is none."""
        return None

    @abc.abstractmethod
    def do(self, system: System) -> None:
        """Do it; OSError or EvaluatorError when it cannot be done."""


class _Command(NamedTuple):
    argv: Tuple[str, ...]
    hint: str


class Command(_Command, Step):
    """Run a tool; `hint` says what a person may do when it fails."""

    def describe(self) -> str:
        return f"run     {shell_line(self.argv)}"

    def do(self, system: System) -> None:
        reason = system.run(self.argv).reason
        if reason is not None:
            raise EvaluatorError("install", f"{shell_line(self.argv)}: {reason}{self.hint and '; ' + self.hint}")


class _Write(NamedTuple):
    path: str
    text: str


class Write(_Write, Step):
    """Put a text of ours in place, readable for everybody."""

    def describe(self) -> str:
        return f"write   {self.path}"

    def content(self) -> Optional[str]:
        return self.text

    def do(self, system: System) -> None:
        _replace(system.at(self.path), self.text.encode("utf-8"), 0o644)


class _Copy(NamedTuple):
    source: str
    path: str


class Copy(_Copy, Step):
    """Put a copy of the program in place. `source` is a file of this process, wherever `System.root` is."""

    def describe(self) -> str:
        return f"copy    {self.source} to {self.path}"

    def do(self, system: System) -> None:
        with open(self.source, "rb") as stream:
            _replace(system.at(self.path), stream.read(), 0o755)


class _Folder(NamedTuple):
    path: str
    mode: int
    owner: Optional[str]


class Folder(_Folder, Step):
    """Make a folder, if it is not there, and give it these rights and (if named) this owner."""

    def describe(self) -> str:
        return f"folder  {self.path} ({self.mode:04o}{', ' + self.owner if self.owner else ''})"

    def do(self, system: System) -> None:
        path = system.at(self.path)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, self.mode)
        if self.owner is not None:
            Command(("chown", f"{self.owner}:", self.path), "").do(system)


class _Remove(NamedTuple):
    path: str


class Remove(_Remove, Step):
    """Remove a file; one that is not there is removed already."""

    def describe(self) -> str:
        return f"remove  {self.path}"

    def do(self, system: System) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(system.at(self.path))


class RemoveEmpty(_Remove, Step):
    """Remove a folder in which nothing is left."""

    def describe(self) -> str:
        return f"remove  {self.path} if nothing else is in it"

    def do(self, system: System) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(system.at(self.path))


class RemoveTree(_Remove, Step):
    """Remove a folder and all that is in it."""

    def describe(self) -> str:
        return f"remove  {self.path} and all that is in it"

    def do(self, system: System) -> None:
        shutil.rmtree(system.at(self.path))


def shell_line(argv: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    import shlex

    return " ".join(shlex.quote(word) for word in argv)


def _replace(path: str, content: bytes, mode: int) -> None:
    """Put a file in place in one step, on the disk when this returns: a board may lose its power any time."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = path + ".part"
    with contextlib.suppress(FileNotFoundError):
        os.remove(part)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)  # whatever the umask
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    os.rename(part, path)
