"""How a runtime's child is started: under which Python, with which tool.

A board may keep a runtime's library where another Python sees it: JetPack's TensorRT and onnxruntime belong
to the system's python3, and a virtual environment hides them. So each runtime has an interpreter of its own,
named in `config.json` or found: the one that the agent runs on, else the system's. A tool is one that the
configuration names, else one on the PATH or where its maker puts it.

What is cheap to see (there is no such module, no such tool) is seen here, without a child.
"""

import importlib
import importlib.util
import os
import shutil
import sys
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence

from vitsearch_evaluators import runtimes
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.config import RuntimeConfig
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.runtimes.needs import NEEDS, Needs
from vitsearch_evaluators.wire.device_info import RuntimeInfo

SYSTEM_PYTHON = "/usr/bin/python3"

_FIND = (
    "import importlib.util, sys; "
    "sys.exit(0 if any(importlib.util.find_spec(name) is not None for name in sys.argv[1:]) else 3)"
)


def needs_of(name: str) -> Needs:
    """Return what a runtime needs; only another package's is imported for it. InvalidRequest for an unknown name."""
    if name in NEEDS:
        return NEEDS[name]
    runtime = runtimes.create(name)
    return Needs(runtime.libraries, runtime.tools)


class Launch(NamedTuple):
    """`python` starts the child, which starts `tool` if its runtime is one; `cache` is a folder for what
    a runtime makes of a model and wants to keep."""

    python: str = sys.executable
    tool: Optional[str] = None
    cache: Optional[str] = None

    def to_job(self) -> Mapping[str, Any]:
        """Return what the child is told."""
        return {"tool": self.tool, "cache": self.cache}

    @property
    def program(self) -> str:
        return self.tool or self.python

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
    """A way to start a runtime, or why there is none."""

    launch: Launch
    reason: Optional[str]


def check(name: str, config: RuntimeConfig) -> Needs:
    """Return what a runtime needs; InvalidRequest for an unknown one, and for what can have no effect on it."""
    needs = needs_of(name)
    if config.tool is not None and not needs.tools:
        raise InvalidRequest(f"runtimes.{name}.tool: {name} is no tool")
    if config.python is not None and needs.tools:
        raise InvalidRequest(f"runtimes.{name}.python: {name} is a tool, and no Python runs it")
    return needs


def candidates(name: str, config: RuntimeConfig, system: System) -> Iterator[Candidate]:
    """Yield the ways to start a runtime, the best first; at least one. What is configured is the only one."""
    needs = check(name, config)
    if needs.tools:
        yield _tool(needs.tools if config.tool is None else (config.tool,))
    elif config.python is not None:
        # Its own words say best what is wrong with it.
        yield Candidate(Launch(python=config.python), None)
    else:
        yield Candidate(Launch(), _absent(needs))
        if needs.libraries and sys.executable != SYSTEM_PYTHON and _has(SYSTEM_PYTHON, needs, system):
            yield Candidate(Launch(python=SYSTEM_PYTHON), None)


def _has(python: str, needs: Needs, system: System) -> bool:
    return system.run([python, "-c", _FIND, *needs.libraries]).reason is None


def _tool(names: Sequence[str]) -> Candidate:
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return Candidate(Launch(tool=os.path.abspath(path)), None)
    return Candidate(Launch(), f"no program {' or '.join(names)} here; config.json can name one")


def _absent(needs: Needs) -> Optional[str]:
    if not needs.libraries:
        return None
    importlib.invalidate_caches()  # it may have been installed since we started
    for library in needs.libraries:
        try:
            if importlib.util.find_spec(library) is not None:
                return None
        except (ImportError, ValueError):
            continue
    return f"no module {' or '.join(needs.libraries)} in {sys.executable}"
