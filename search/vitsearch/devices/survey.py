"""What the known devices can run, what they lack, and the line that installs it there."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vitsearch.devices.connection import connect
from vitsearch.devices.deployable import PACKAGES
from vitsearch.devices.registry import KnownDevice
from vitsearch.errors import VitsearchError
from vitsearch_agent.errors import AgentError, Unauthorized
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
    left_out = {"noop"} | ({"coreml"} if is_linux else set())  # Core ML runs on Apple's systems only
    parts = [_runtime(runtime) for runtime in info.runtimes if runtime.name not in left_out]
    meter = info.power_meter
    parts.append(DevicePart("power meter", meter is not None, meter or "none: energy_mj and power_w are not measured"))
    parts += [
        DevicePart(f"restriction {restriction.name}", restriction.holds, restriction.detail)
        for restriction in info.restrictions
    ]
    if info.quarantined is not None:
        parts.append(DevicePart("measurements", False, f"in quarantine: {info.quarantined}"))
    return tuple(parts)


def _runtime(runtime: RuntimeInfo) -> DevicePart:
    if runtime.available:
        providers = f": {', '.join(runtime.providers)}" if runtime.providers else ""
        return DevicePart(runtime.name, True, f"{runtime.version}{providers}")
    install = f"pip install {PACKAGES[runtime.name]}" if runtime.name in PACKAGES else None
    return DevicePart(runtime.name, False, runtime.reason or "not available", install)
