"""What the runtimes said of themselves, kept for an agent that is started again a moment later.

A runtime check imports the runtime in a child, which costs seconds on a small board. After a crash nothing has
changed; after a reboot, an update or a while something may have, and they are asked again.
"""

import contextlib
import os
import sys
import time
from typing import Any, Callable, List, Optional, Tuple

from vitsearch_evaluators.base import processes
from vitsearch_evaluators.base.atomic_files import write_json
from vitsearch_evaluators.base.canonical_json import digest, parse_json
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.wire.device_info import RuntimeInfo

FRESH_S = 600.0

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")


class RuntimeCache:
    """One file. What cannot be read or written is as if it was not there."""

    def __init__(self, path: str, configuration: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """`configuration` is the device's, and a runtime check may depend on any part of it."""
        self._path = path
        self._configuration = repr(configuration)
        self._clock = clock

    def load(self) -> Optional[Tuple[RuntimeInfo, ...]]:
        """Return what was found by an agent like this one within the last FRESH_S seconds, else None."""
        try:
            with open(self._path, "rb") as stream:
                kept = parse_json(stream.read())
            # Within one boot, which the key names, monotonic clocks of two processes are the same clock.
            if kept["key"] != self._key() or not 0 <= self._clock() - kept["clock"] <= FRESH_S:
                return None
            return tuple(RuntimeInfo.from_json(runtime) for runtime in kept["runtimes"])
        except (OSError, ValueError, KeyError, TypeError, InvalidRequest):
            return None

    def keep(self, runtimes: Tuple[RuntimeInfo, ...]) -> None:
        content = {
            "key": self._key(),
            "clock": self._clock(),
            "runtimes": [runtime.to_json() for runtime in runtimes],
        }
        with contextlib.suppress(OSError):
            write_json(self._path, content)

    def _key(self) -> str:
        return digest(
            {
                "boot": processes.boot_id(),
                "python": [sys.executable, sys.version],
                "configuration": self._configuration,
                "environment": {name: os.environ.get(name) for name in _ENVIRONMENT},
                "installed": _installed(),
            }
        )


def _installed() -> List[List[Any]]:
    """Installing, updating or removing a package changes the time of the folder that it lies in."""
    found: List[List[Any]] = []
    for place in sys.path:
        with contextlib.suppress(OSError):
            found.append([place, str(os.stat(place or ".").st_mtime_ns)])
    own = processes.package_folder()
    if not os.path.isdir(own):  # all of it is one file, which is on the path above
        return found
    for folder, _, names in sorted(os.walk(own)):
        for name in sorted(names):
            if name.endswith(".py"):
                found.append([name, str(os.stat(os.path.join(folder, name)).st_mtime_ns)])
    return found
