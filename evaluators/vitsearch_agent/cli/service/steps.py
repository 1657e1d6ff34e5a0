"""The changes that an installation makes to a machine, as values that are shown (`--dry-run`) or run in order."""

import abc
import contextlib
import os
import shlex
import shutil
from typing import NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.base.atomic_files import write_bytes
from vitsearch_agent.base.system import System
from vitsearch_agent.errors import AgentError


class Step(abc.ABC):
    """One change. Paths are those of the device, as in `System`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return one line that describes the step."""

    def content(self) -> Optional[str]:
        """Return the text that the step writes, None if it writes none."""
        return None

    @abc.abstractmethod
    def do(self, system: System) -> None:
        """Run the step; OSError or AgentError when it fails."""


class _Command(NamedTuple):
    argv: Tuple[str, ...]
    hint: str


class Command(_Command, Step):
    """Run a command; `hint` is advice for the case that it fails."""

    def describe(self) -> str:
        return f"run     {shell_line(self.argv)}"

    def do(self, system: System) -> None:
        reason = system.run(self.argv).reason
        if reason is not None:
            raise AgentError("install", f"{shell_line(self.argv)}: {reason}{self.hint and '; ' + self.hint}")


class _Write(NamedTuple):
    path: str
    text: str


class Write(_Write, Step):
    """Write a text file that everybody may read."""

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
    """Install a copy of the program. `source` is a path on this machine, whatever `System.root` is."""

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
    """Create a folder if needed, and set its mode and its owner (if given)."""

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
    """Remove a file if it exists."""

    def describe(self) -> str:
        return f"remove  {self.path}"

    def do(self, system: System) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(system.at(self.path))


class RemoveEmpty(_Remove, Step):
    """Remove a folder if it is empty."""

    def describe(self) -> str:
        return f"remove  {self.path} if it is empty"

    def do(self, system: System) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(system.at(self.path))


class RemoveTree(_Remove, Step):
    """Remove a folder and its contents."""

    def describe(self) -> str:
        return f"remove  {self.path} and its contents"

    def do(self, system: System) -> None:
        shutil.rmtree(system.at(self.path))


def shell_line(argv: Sequence[str]) -> str:
    """Return a command quoted for a shell."""
    return " ".join(shlex.quote(word) for word in argv)


def _replace(path: str, content: bytes, mode: int) -> None:
    """Replace a file atomically and sync it to the disk, because a board may lose its power at any time."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_bytes(path, content, mode)
