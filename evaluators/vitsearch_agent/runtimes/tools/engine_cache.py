"""A cache of the engines that TensorRT built on this device, kept between jobs.

An engine fits one TensorRT version on one GPU and was tuned under one power mode; elsewhere it fails to load
or runs badly. All of these are part of its key. An engine is used only if its digest is unchanged.
"""

import contextlib
import json
import os
from typing import Any, Callable, Dict, Mapping, Optional

from vitsearch_agent.base.atomic_files import replacing_path, write_json
from vitsearch_agent.base.canonical_json import digest, file_digest

ENGINES_KEPT = 4
"""Of one model: its precisions and sizes."""


class EngineCache:
    """A folder of engines, private to the agent; at most ENGINES_KEPT remain, the least recently used go first."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find(self, key: Mapping[str, Any]) -> Optional[str]:
        """Return the path of the engine with this key, None when it must be built."""
        path = self._path(key)
        try:
            with open(path + ".json") as stream:
                kept: Dict[str, Any] = json.load(stream)
            is_intact = kept["key"] == dict(key) and kept["sha256"] == file_digest(path)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not is_intact:
            return None
        write_json(path + ".json", kept)  # marks it as the most recently used: a measuring child may set no times
        return path

    def make(self, key: Mapping[str, Any], build: Callable[[str], None]) -> str:
        """Return the path of the engine with this key; `build` writes it to a path when the cache does not have it."""
        stored = self.find(key)
        if stored is not None:
            return stored
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = self._path(key)
        self.drop(key)
        with replacing_path(path) as part:
            build(part)
            described = {"key": dict(key), "sha256": file_digest(part)}
        write_json(path + ".json", described)
        self._evict()
        return path

    def drop(self, key: Mapping[str, Any]) -> None:
        """Remove the engine with this key."""
        for name in (self._path(key) + ".json", self._path(key)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)

    def _path(self, key: Mapping[str, Any]) -> str:
        return os.path.join(self._folder, digest(dict(key))[:32] + ".engine")

    def _evict(self) -> None:
        paths = [os.path.join(self._folder, name) for name in os.listdir(self._folder) if name.endswith(".engine")]
        for path in sorted(paths, key=_last_used)[:-ENGINES_KEPT]:
            for name in (path + ".json", path):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(name)


def _last_used(path: str) -> float:
    """Return when an engine was found or made last; 0 for one without a description, which was not completed."""
    try:
        return os.path.getmtime(path + ".json")
    except OSError:
        return 0.0
