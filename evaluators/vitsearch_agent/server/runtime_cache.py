"""The results of the runtime checks, kept for an agent that is restarted a moment later.

A runtime check imports the runtime in a child, which takes seconds on a small device. After a crash nothing has
changed. After a reboot, an update or a longer time something may have changed, and the runtimes are checked again.
"""

import contextlib
import os
import sys
import time
from typing import Any, Callable, List, Optional, Tuple

from vitsearch_agent.base import processes
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.base.canonical_json import digest, parse_json
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.device_info import RuntimeInfo

FRESH_S = 600.0

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")


class RuntimeCache:
    """The file with the results. A file that cannot be read counts as missing, a failed write is ignored."""

    def __init__(self, path: str, configuration: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """`configuration` is the device's; a runtime check may depend on any part of it."""
        self._path = path
        self._configuration = repr(configuration)
        self._clock = clock

    def load(self) -> Optional[Tuple[RuntimeInfo, ...]]:
        """Return the results if an equal agent stored them within the last FRESH_S seconds, else None."""
        try:
            with open(self._path, "rb") as stream:
                kept = parse_json(stream.read())
            # The key contains the boot, and within one boot all processes have the same monotonic clock.
            if kept["key"] != self._key() or not 0 <= self._clock() - kept["clock"] <= FRESH_S:
                return None
            return tuple(RuntimeInfo.from_json(runtime) for runtime in kept["runtimes"])
        except (OSError, ValueError, KeyError, TypeError, InvalidRequest):
            return None

    def keep(self, runtimes: Tuple[RuntimeInfo, ...]) -> None:
        """Store the results."""
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
    """Return the modification times of the folders in sys.path, which change when a package is installed."""
    times: List[List[Any]] = []
    for entry in sys.path:
        with contextlib.suppress(OSError):
            times.append([entry, str(os.stat(entry or ".").st_mtime_ns)])
    own = processes.package_folder()
    if not os.path.isdir(own):  # a .pyz, which is an entry of sys.path
        return times
    for folder, _, names in sorted(os.walk(own)):
        for name in sorted(names):
            if name.endswith(".py"):
                times.append([name, str(os.stat(os.path.join(folder, name)).st_mtime_ns)])
    return times
