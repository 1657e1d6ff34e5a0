"""What the known devices can run, what they lack, and the line that installs it there."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vitsearch.core.metrics import NEEDS
from vitsearch.devices.connection import connect
from vitsearch.devices.registry import KnownDevice
from vitsearch.errors import VitsearchError
from vitsearch_agent.errors import AgentError, Unauthorized
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.wire.device_info import RuntimeInfo
from vitsearch_agent.wire.protocol import DeviceInfo

AT_ONCE = 16
ANSWER_S = 10.0
"""Longest wait for a device."""


@dataclass(frozen=True)
class DevicePart:
    """Something that can be there or not: a runtime, a converter, an optional package."""

    name: str
    """A runtime, a package, a meter."""
    works: bool
    """Whether it is there."""
    detail: str
    """Its version, or what is missing."""
    install: str | None = None
    """The command that installs it; null where none does."""


@dataclass(frozen=True)
class DeviceSurvey:
    """A device with its parts."""

    name: str
    """As 'vitsearch devices list' shows it."""
    url: str
    """Address."""
    reason: str | None
    """Why it does not answer; null where it does."""
    board: str | None = None
    """What it is."""
    parts: tuple[DevicePart, ...] = ()
    """Its runtimes, meter and restrictions."""


def survey(devices: Mapping[str, KnownDevice]) -> list[DeviceSurvey]:
    """Ask all devices at the same time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_survey, devices, devices.values()))


def _survey(name: str, device: KnownDevice) -> DeviceSurvey:
    try:
        with connect(name, device, "doctor", ANSWER_S) as client:
            info = client.device()
    except Unauthorized:
        again = f"vitsearch devices add {device.url} {name}"
        return DeviceSurvey(name, device.url, f"its token was rotated or is wrong; with the right token, run: {again}")
    except (AgentError, VitsearchError) as error:
        return DeviceSurvey(name, device.url, str(error))
    board = info.fingerprint.get("board") or info.fingerprint.get("cpu")
    return DeviceSurvey(name, device.url, None, board, device_parts(info))


def device_parts(info: DeviceInfo) -> tuple[DevicePart, ...]:
    """The parts of a device, by what its agent reports."""
    is_linux = info.fingerprint.get("kernel") is not None
    parts = [_runtime(runtime) for runtime in info.runtimes if _is_shown(runtime, is_linux)]
    meter = info.power_meter
    *metered, last = NEEDS["power"]
    without = f"none: {', '.join(metered)} and {last} are not measured"
    parts.append(DevicePart("power meter", meter is not None, meter or without))
    parts += [
        DevicePart(f"restriction {restriction.name}", restriction.holds, restriction.detail)
        for restriction in info.restrictions
    ]
    if info.quarantined is not None:
        parts.append(DevicePart("measurements", False, f"in quarantine: {info.quarantined}"))
    return tuple(parts)


def _is_shown(runtime: RuntimeInfo, is_linux: bool) -> bool:
    needs = RUNTIMES.get(runtime.name)
    return needs is None or (needs.runs_models and not (is_linux and needs.system is not None))


def _runtime(runtime: RuntimeInfo) -> DevicePart:
    if runtime.available:
        providers = f": {', '.join(runtime.providers)}" if runtime.providers else ""
        return DevicePart(runtime.name, True, f"{runtime.version}{providers}")
    needs = RUNTIMES.get(runtime.name)
    install = f"pip install {needs.package}" if needs is not None and needs.package else None
    return DevicePart(runtime.name, False, runtime.reason or "not available", install)
