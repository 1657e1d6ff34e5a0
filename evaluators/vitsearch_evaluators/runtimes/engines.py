"""Engines that TensorRT built on this device, kept from job to job.

An engine fits one TensorRT on one GPU, and was tuned under one power mode: loaded elsewhere it fails at best.
So all of that is its key; what has another key is never looked at. A kept engine is used only when its bytes
are those that were written.
"""

import contextlib
import json
import os
from typing import Any, Callable, Dict, Mapping, Optional

from vitsearch_evaluators.base.atomic_files import replacing_path, write_json
from vitsearch_evaluators.base.canonical_json import digest, file_digest

ENGINES_KEPT = 16


class EngineCache:
    """A folder, private to the agent."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find(self, key: Mapping[str, Any]) -> Optional[str]:
        """Return the path of the engine with this key, None when it has to be built."""
        path = self._path(key)
        try:
            with open(path + ".json") as stream:
                kept: Dict[str, Any] = json.load(stream)
            whole = kept["key"] == dict(key) and kept["sha256"] == file_digest(path)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not whole:
            return None
        os.utime(path)  # used last
        return path

    def make(self, key: Mapping[str, Any], build: Callable[[str], None]) -> str:
        """Return the engine with this key; `build` writes it to a path when it is not here."""
        found = self.find(key)
        if found is not None:
            return found
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = self._path(key)
        self.drop(key)
        with replacing_path(path) as part:
            build(part)
            described = {"key": dict(key), "sha256": file_digest(part)}
        write_json(path + ".json", described)
        self._forget_oldest()
        return path

    def drop(self, key: Mapping[str, Any]) -> None:
        for name in (self._path(key) + ".json", self._path(key)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)

    def _path(self, key: Mapping[str, Any]) -> str:
        return os.path.join(self._folder, digest(dict(key))[:32] + ".engine")

    def _forget_oldest(self) -> None:
        paths = [os.path.join(self._folder, name) for name in os.listdir(self._folder) if name.endswith(".engine")]
        for path in sorted(paths, key=os.path.getmtime)[:-ENGINES_KEPT]:
            for name in (path + ".json", path):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(name)
