"""Choose the Python interpreter or the tool that runs a runtime's child.

On some devices only another Python has the runtime's library: JetPack's TensorRT and onnxruntime belong to
the system's python3, and a virtual environment hides them. So each runtime has its own interpreter: the one
named in `config.json`, else the agent's, else the system's. A tool is the one that the configuration names,
else one on the PATH or at the path where its maker installs it.

A missing module or tool is detected here, without starting a child.
"""

import importlib
import importlib.util
import os
import shutil
import sys
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent import runtimes
from vitsearch_agent.base.python import run_code
from vitsearch_agent.base.system import System
from vitsearch_agent.config import RuntimeConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.runtime_facts import RUNTIMES, RuntimeFacts
from vitsearch_agent.wire.device_info import RuntimeInfo

SYSTEM_PYTHON = "/usr/bin/python3"

_FIND = (
    "import importlib.util, sys; "
    "sys.exit(0 if any(importlib.util.find_spec(name) is not None for name in sys.argv[1:]) else 3)"
)


def needs_of(name: str) -> RuntimeFacts:
    """Return the libraries and tools that a runtime needs; InvalidRequest for an unknown name.

    Only a runtime of another package is imported for this.
    """
    if name in RUNTIMES:
        return RUNTIMES[name]
    runtime = runtimes.create(name)
    target = f"{type(runtime).__module__}:{type(runtime).__qualname__}"
    return RuntimeFacts(len(RUNTIMES), target, libraries=runtime.libraries, tools=runtime.tools)


class Launch(NamedTuple):
    """How to start a child.

    `python` runs the child; a tool runtime's child then runs `tool`. `cache` is a folder for files that a
    runtime builds from a model and keeps, such as engines. An isolated child may change the folders `writable`, and
    use the network if `network` is set.
    """

    python: str = sys.executable
    tool: Optional[str] = None
    cache: Optional[str] = None
    writable: Tuple[str, ...] = ()
    network: bool = False

    def to_job(self) -> Mapping[str, Any]:
        """Return the part of the job that the child receives."""
        return {"tool": self.tool, "cache": self.cache}

    @property
    def program(self) -> str:
        return self.tool or self.python

    def allowing(self, config: RuntimeConfig) -> "Launch":
        """Return a copy with the rights that the configuration of its runtime gives."""
        return self._replace(writable=config.writable, network=config.network)

    @classmethod
    def of(cls, info: RuntimeInfo, cache: Optional[str] = None) -> "Launch":
        """Return how a runtime is started, from what the runtime check found."""
        if info.program is None:
            return cls(cache=cache)
        if needs_of(info.name).tools:
            return cls(tool=info.program, cache=cache)
        return cls(python=info.program, cache=cache)


THIS_PYTHON = Launch()


class Candidate(NamedTuple):
    """A way to start a runtime; `reason` says why it cannot work, None when it may."""

    launch: Launch
    reason: Optional[str]


def check(name: str, config: RuntimeConfig) -> RuntimeFacts:
    """Return what a runtime needs; InvalidRequest for an unknown runtime or a setting without effect on it."""
    needs = needs_of(name)
    if config.tool is not None and not needs.tools:
        raise InvalidRequest(f"runtimes.{name}.tool: {name} is not a tool; use runtimes.{name}.python")
    if config.python is not None and needs.tools:
        raise InvalidRequest(f"runtimes.{name}.python: {name} is a tool; use runtimes.{name}.tool")
    return needs


def candidates(name: str, config: RuntimeConfig, system: System) -> Iterator[Candidate]:
    """Yield the ways to start a runtime, the best first, at least one. A configured program is the only one."""
    needs = check(name, config)
    if needs.tools:
        yield _tool(needs.tools if config.tool is None else (config.tool,))
    elif config.python is not None:
        # Not checked here: the interpreter's own error message is the best description of a problem.
        yield Candidate(Launch(python=config.python), None)
    else:
        yield Candidate(Launch(), _missing_library(needs))
        if needs.libraries and sys.executable != SYSTEM_PYTHON and _has(SYSTEM_PYTHON, needs, system):
            yield Candidate(Launch(python=SYSTEM_PYTHON), None)


def _has(python: str, needs: RuntimeFacts, system: System) -> bool:
    return system.run(run_code(python, _FIND, *needs.libraries)).reason is None


def _tool(names: Sequence[str]) -> Candidate:
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return Candidate(Launch(tool=os.path.abspath(path)), None)
    return Candidate(Launch(), f"program not found: {' or '.join(names)}; config.json can name one")


def _missing_library(needs: RuntimeFacts) -> Optional[str]:
    if not needs.libraries:
        return None
    importlib.invalidate_caches()  # the library may have been installed since the agent started
    for library in needs.libraries:
        try:
            if importlib.util.find_spec(library) is not None:
                return None
        except (ImportError, ValueError):
            continue
    return f"module not found in {sys.executable}: {' or '.join(needs.libraries)}"
