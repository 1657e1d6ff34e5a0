"""What this machine can do: search, write the files of each runtime, run them, read data, use other databases."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vitsearch.core.targets import TARGETS
from vitsearch.devices.survey import DevicePart
from vitsearch.export import EXPORTERS
from vitsearch_agent.runtime_facts import RUNTIMES

OPTIONAL = {
    "psycopg": ("studies in PostgreSQL", "pip install 'vitsearch[postgresql]'"),
    "s3fs": ("files in s3://", "pip install 'vitsearch[s3]'"),
    "gcsfs": ("files in gs://", "pip install 'vitsearch[gs]'"),
    "paramiko": ("files in sftp://", "pip install 'vitsearch[sftp]'"),
    "datasets": ("data of hfds/", "pip install 'vitsearch[hfds]'"),
    "webdataset": ("data of wds/", "pip install 'vitsearch[wds]'"),
    "prometheus_client": ("run --metrics", "pip install 'vitsearch[metrics]'"),
    "mlflow": ("run --mlflow", "pip install 'vitsearch[mlflow]'"),
    "opentelemetry": ("traces of trials and stages", "pip install 'vitsearch[otel]'"),
    "uvicorn": ("vitsearch serve", "pip install 'vitsearch[serve]'"),
    "optuna_dashboard": ("vitsearch dashboard", "pip install optuna-dashboard"),
    "pandas": ("StoredStudy.to_frame()", "pip install 'vitsearch[pandas]'"),
}
"""Packages that a part of vitsearch uses where they are installed: what for, and the command."""


@dataclass(frozen=True)
class Machine:
    """This machine, and what it can do."""

    python: str
    """Version of Python."""
    vitsearch: str
    """Version of vitsearch."""
    system: str
    """Operating system."""
    cores: int
    """That this process may use."""
    memory_gb: float | None
    """In all."""
    disk_free_gb: float
    """On the disk of the current folder."""
    gpu: str | None
    """That torch finds."""
    parts: dict[str, tuple[DevicePart, ...]]
    """Group -> what can be there."""


def this_machine(folder: Path = Path()) -> Machine:
    """Look at this machine. Nothing is installed, downloaded or started; torch is imported to find a GPU."""
    return Machine(
        platform.python_version(),
        metadata.version("vitsearch"),
        platform.platform(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        _memory_gb(),
        shutil.disk_usage(folder).free / 1e9,
        _gpu(),
        {
            "writes files for": tuple(map(_writes, TARGETS)),
            "runs files of": tuple(map(runtime_here, TARGETS)),
            "optional": tuple(_optional()),
        },
    )


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return None


def _gpu() -> str | None:
    from vitsearch.stages.parts.images import torch_device  # torch: only for those who look for a GPU

    if torch_device() != "cuda":
        return None
    torch = sys.modules["torch"]
    return str(torch.cuda.get_device_name())


def _writes(runtime: str) -> DevicePart:
    missing = EXPORTERS.get(runtime)().missing()
    if missing is None:
        return DevicePart(runtime, True, ", ".join(TARGETS[runtime].precisions))
    said = missing.split("; ")
    commands = [part.removeprefix("run: ") for part in said if part.startswith("run: ")]
    reasons = [part for part in said if not part.startswith("run: ")]
    return DevicePart(runtime, False, "; ".join(reasons), " && ".join(commands) or None)


def runtime_here(runtime: str) -> DevicePart:
    """Find the program or the library that runs the files of a runtime. It is not started.

    Args:
        runtime: A runtime of the space file.

    Returns:
        What is there, or what is missing and how to install it.
    """
    lacking = []
    on_device = [RUNTIMES[each.name] for each in TARGETS[runtime].on_device]
    for needs in on_device:
        if needs.system is not None and sys.platform != needs.system.platform:
            return DevicePart(runtime, False, needs.system.reason)
        for library in needs.libraries:
            if importlib.util.find_spec(library) is not None:
                return DevicePart(runtime, True, f"{library} {_version(library)}")
        for tool in needs.tools:
            if (path := shutil.which(tool)) is not None:
                return DevicePart(runtime, True, path)
        lacking += [*needs.libraries, *(tool for tool in needs.tools if "/" not in tool)]
    install = f"pip install 'vitsearch-agent[{runtime}]'" if on_device[0].package else None
    return DevicePart(runtime, False, f"needs {' or '.join(lacking)}", install)


def _version(library: str) -> str:
    try:
        return metadata.version(library.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _optional() -> Iterator[DevicePart]:
    for package, (purpose, command) in OPTIONAL.items():
        is_there = importlib.util.find_spec(package) is not None
        yield DevicePart(package, is_there, purpose, None if is_there else command)
