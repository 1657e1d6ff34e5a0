"""The device's configuration: `config.json` in the state folder, written by the owner of the device.

    {"runtimes": {"onnxruntime": {"python": "/usr/bin/python3"}, "trtexec": {"tool": "/opt/bin/trtexec"}},
     "power": {"meter": "ina3221"},
     "limits": {"quota_mb": 2000, "memory_mb": 1500, "job_max_s": 3600},
     "canary": {"every_jobs": 50},
     "emulation": {"slowdown": 8.0}}

Every section and key is optional. A client cannot change any of it.
"""

import os
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.errors import InvalidRequest

FILE_NAME = "config.json"


class RuntimeConfig(NamedTuple):
    """How to start one runtime: `python`, another interpreter (JetPack's own), or `tool`, a program (`trtexec`).

    Its children cannot use the network unless `network` is set. They may change the folders `writable`, besides their
    own, those for temporary files and devices.
    """

    python: Optional[str] = None
    tool: Optional[str] = None
    network: bool = False
    writable: Tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any, where: str = "runtime") -> "RuntimeConfig":
        return cls(**json_reader.read_object(value, _RUNTIME, where, _RUNTIME))


_RUNTIME: Mapping[str, json_reader.Reader] = {
    "python": json_reader.text,
    "tool": json_reader.text,
    "network": json_reader.boolean,
    "writable": json_reader.sequence(json_reader.text, 32),
}

RUNTIME_DEFAULT = RuntimeConfig()


class PowerConfig(NamedTuple):
    """Which meter to read: `auto` is the first one found, `none` is no meter. `options` belong to the meter."""

    meter: str = "auto"
    options: Mapping[str, Any] = {}

    @classmethod
    def from_json(cls, value: Any, where: str = "power") -> "PowerConfig":
        return cls(**json_reader.read_object(value, _POWER, where, _POWER))


_POWER: Mapping[str, json_reader.Reader] = {"meter": json_reader.text, "options": json_reader.mapping()}


class LimitsConfig(NamedTuple):
    """Limits for the agent and its clients; a MB is 10^6 bytes.

    `max_blob_mb` limits one uploaded file, `quota_mb` all kept files together; `reserve_mb` stays free on the disk.
    `memory_mb` limits a measuring child; with None only the kernel does. `job_max_s` limits the sum of the time limits
    of all processes of a job. A job is given up after `interruptions_max`
    interruptions (the agent ended during it, or its child was killed from outside), because it probably causes them.
    `queued_per_owner` and `queued_total` limit waiting jobs. `requests_per_s` and `connections` hold for each
    client address, `connections_total` for all of them together.
    """

    max_blob_mb: int = 512
    quota_mb: int = 4096
    reserve_mb: int = 64
    memory_mb: Optional[int] = None
    job_max_s: float = 14400.0
    interruptions_max: int = 3
    queued_per_owner: int = 64
    queued_total: int = 1024
    connections: int = 16
    connections_total: int = 64
    requests_per_s: float = 200.0

    @classmethod
    def from_json(cls, value: Any, where: str = "limits") -> "LimitsConfig":
        return cls(**json_reader.read_object(value, _LIMITS, where, _LIMITS))


_LIMITS: Mapping[str, json_reader.Reader] = {
    "max_blob_mb": json_reader.integer(1, 10**6),
    "quota_mb": json_reader.integer(1, 10**8),
    "reserve_mb": json_reader.integer(0, 10**7),
    "memory_mb": json_reader.optional(json_reader.integer(16, 10**7)),
    "job_max_s": json_reader.number(1, 10**7),
    "interruptions_max": json_reader.integer(1, 10**6),
    "queued_per_owner": json_reader.integer(1, 10**5),
    "queued_total": json_reader.integer(1, 10**5),
    "connections": json_reader.integer(1, 1024),
    "connections_total": json_reader.integer(1, 1024),
    "requests_per_s": json_reader.number(1, 10**5),
}


class CanaryConfig(NamedTuple):
    """How often to measure the canary (jobs, seconds), and the relative drift above which a quarantine starts."""

    every_jobs: int = 50
    every_s: float = 3600.0
    max_drift: float = 0.05

    @classmethod
    def from_json(cls, value: Any, where: str = "canary") -> "CanaryConfig":
        return cls(**json_reader.read_object(value, _CANARY, where, _CANARY))


_CANARY = {
    "every_jobs": json_reader.integer(1, 10**6),
    "every_s": json_reader.number(1, 10**8),
    "max_drift": json_reader.number(0.001, 10),
}


class EmulationConfig(NamedTuple):
    """How to emulate a device: times are multiplied by `slowdown`; power, temperature and throttling are read
    from files below `root`, which a script writes. Results are marked as emulated."""

    slowdown: float = 1.0
    root: Optional[str] = None

    @classmethod
    def from_json(cls, value: Any, where: str = "emulation") -> "EmulationConfig":
        return cls(**json_reader.read_object(value, _EMULATION, where, _EMULATION))


_EMULATION = {"slowdown": json_reader.number(0.01, 1000), "root": json_reader.text}


class AgentConfig(NamedTuple):
    """The whole `config.json`."""

    runtimes: Mapping[str, RuntimeConfig] = {}
    power: PowerConfig = PowerConfig()
    limits: LimitsConfig = LimitsConfig()
    canary: CanaryConfig = CanaryConfig()
    emulation: Optional[EmulationConfig] = None

    @classmethod
    def from_json(cls, value: Any, where: str = "config") -> "AgentConfig":
        return cls(**json_reader.read_object(value, _CONFIG, where, _CONFIG))


NO_CONFIG = AgentConfig()

_CONFIG: Mapping[str, json_reader.Reader] = {
    "runtimes": json_reader.mapping(RuntimeConfig.from_json),
    "power": PowerConfig.from_json,
    "limits": LimitsConfig.from_json,
    "canary": CanaryConfig.from_json,
    "emulation": json_reader.optional(EmulationConfig.from_json),
}


def load(state: str) -> AgentConfig:
    """Read the configuration of a state folder. InvalidRequest names the file, the key and what is allowed."""
    path = os.path.join(state, FILE_NAME)
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        return AgentConfig()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    try:
        value: Dict[str, Any] = parse_json(content)
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error
    return AgentConfig.from_json(value, path)
