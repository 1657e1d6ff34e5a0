"""The results of the runtime checks, kept for an agent that is restarted a moment after it was killed.

A runtime check imports the runtime in a child, which takes seconds on a small device. After a crash nothing has
changed. After a reboot, an update or a longer time something may have changed, and the runtimes are checked again; so
they are after an agent that was stopped, perhaps because something was installed.
"""

import contextlib
import glob
import os
import shutil
import sys
import time
from typing import Any, Callable, List, Optional, Tuple

from vitsearch_agent.base import processes
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.base.canonical_json import digest, parse_json
from vitsearch_agent.config import AgentConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.measure.launch import SYSTEM_PYTHON
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.wire.device_info import RuntimeInfo

FRESH_S = 600.0

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")
_SHARED_PREFIXES = ["/usr/local", "~/.local"]
"""Where `pip install` puts packages of the system's interpreter."""


class RuntimeCache:
    """The file with the results. A file that cannot be read counts as missing, a failed write is ignored."""

    def __init__(self, path: str, config: AgentConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """`config` is the device's; a runtime check may depend on any part of it."""
        self._path = path
        self._config = config
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

    def forget(self) -> None:
        """Remove the results, so that the next agent checks the runtimes again."""
        with contextlib.suppress(OSError):
            os.remove(self._path)

    def _key(self) -> str:
        return digest(
            {
                "boot": processes.boot_id(),
                "python": [sys.executable, sys.version],
                "configuration": repr(self._config),
                "environment": {name: os.environ.get(name) for name in _ENVIRONMENT},
                "installed": _installed(),
                "programs": _programs(self._config),
            }
        )


def _installed() -> List[List[Any]]:
    """Return the modification times of the folders in sys.path, which change when a package is installed."""
    times = [[entry, _modified(entry or ".")] for entry in sys.path]
    own = processes.package_folder()
    if not os.path.isdir(own):  # a .pyz, which is an entry of sys.path
        return times
    for folder, _, names in sorted(os.walk(own)):
        for name in sorted(names):
            if name.endswith(".py"):
                times.append([name, _modified(os.path.join(folder, name))])
    return times


def _programs(config: AgentConfig) -> List[List[Any]]:
    """Return paths and modification times of the programs that may run a runtime, and of the folders that hold the
    packages of the interpreters among them. Tools of runtimes of other packages are left out: they would be imported.
    """
    configured = config.runtimes.values()
    tools = [tool for needs in RUNTIMES.values() for tool in needs.tools]
    tools += [programs.tool for programs in configured if programs.tool is not None]
    interpreters = [SYSTEM_PYTHON] + [programs.python for programs in configured if programs.python is not None]
    pythons = [shutil.which(python) or python for python in interpreters]
    paths = pythons + [shutil.which(tool) or tool for tool in tools]
    for prefix in [os.path.dirname(os.path.dirname(python)) for python in pythons] + _SHARED_PREFIXES:
        # `site-packages`, or `dist-packages` on Debian.
        paths += glob.glob(os.path.join(glob.escape(os.path.expanduser(prefix)), "lib*", "python3*", "*-packages"))
    return [[path, _modified(path)] for path in sorted(set(paths))]


def _modified(path: str) -> Optional[str]:
    """Return the modification time, None of what is missing."""
    try:
        return str(os.stat(path).st_mtime_ns)
    except OSError:
        return None
