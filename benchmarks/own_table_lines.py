"""The file of units of work behind our own table, and work that may end its process."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Lines:
    """The file of finished units of work, by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self.rows[row["unit"]] = row

    def add(self, unit: str, row: dict[str, Any]) -> None:
        self.rows[unit] = {"unit": unit, **row}
        with self.path.open("a") as stream:
            stream.write(json.dumps(self.rows[unit]) + "\n")

    @property
    def files(self) -> Path:
        """The folder of what is exported and not measured yet."""
        return self.path.with_suffix(".files")


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns in a forked child: OpenVINO ends its process on some shapes.

    The modules that the child imports are imported here too, so that the next one has them.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    before = set(sys.modules)
    child = os.fork()
    if child == 0:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - a file that cannot be made is a row of the table
            result = {"failed": f"{type(error).__name__}: {error}"[:200]}
        sender.send((result, [name for name in sys.modules if name not in before]))
        sender.close()
        os._exit(0)
    sender.close()
    try:
        result, imported = receiver.recv()
    except EOFError:
        result, imported = {}, []
    _, status = os.waitpid(child, 0)
    for name in imported:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return result or {"failed": f"signal {os.WTERMSIG(status)}"}
