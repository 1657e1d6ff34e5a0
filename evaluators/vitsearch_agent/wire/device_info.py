"""How a device describes itself: its runtimes, its environment, and its load."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.wire.hardware import UNKNOWN_HARDWARE, Hardware
from vitsearch_agent.wire.restriction import Restriction

ANY_ARTIFACT = "any"
"""Entry of `RuntimeInfo.artifacts` for a runtime that does not read the file."""


class RuntimeInfo(NamedTuple):
    """A runtime of the device; `reason` explains why it is not available, None if it is.

    `artifacts` lists the kinds of files that it accepts (`runtime_facts.FORMATS`);
    `max_opset` and `max_ir_version` are the newest ONNX versions that it reads, None if unknown. A client checks them
    before it sends a file. `program` is the interpreter or the tool that runs it.
    """

    name: str
    available: bool
    reason: Optional[str]
    version: Optional[str]
    providers: Tuple[str, ...]
    artifacts: Tuple[str, ...] = ("onnx",)
    max_opset: Optional[int] = None
    max_ir_version: Optional[int] = None
    precisions: Tuple[str, ...] = ()
    program: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        value = dict(self._asdict())
        return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}

    @classmethod
    def from_json(cls, value: Any, where: str = "runtime") -> "RuntimeInfo":
        return cls(**json_reader.read_object(value, _RUNTIME, where))


_RUNTIME = {
    "name": json_reader.text,
    "available": json_reader.boolean,
    "reason": json_reader.optional(json_reader.text),
    "version": json_reader.optional(json_reader.text),
    "providers": json_reader.sequence(json_reader.text),
    "artifacts": json_reader.sequence(json_reader.text),
    "max_opset": json_reader.optional(json_reader.integer(1)),
    "max_ir_version": json_reader.optional(json_reader.integer(1)),
    "precisions": json_reader.sequence(json_reader.text),
    "program": json_reader.optional(json_reader.text),
}


class DeviceInfo(NamedTuple):
    """The device and the agent at an address. `environment_id` is the digest of `fingerprint`.

    `device_id` belongs to the agent's state folder on this `hardware`: no two devices share one. `kind` is `physical`
    or `emulated`, and `emulation` describes the emulation. `power_meter` is the source that power phases read, None if
    there is none. `quarantined` is the reason why the device's numbers are not trusted now (its canary drifted), None
    if they are. `restrictions` are those of the measuring children.
    """

    api_min: int
    api_max: int
    agent_version: str
    device_id: str
    kind: str
    environment_id: str
    fingerprint: Mapping[str, Any]
    runtimes: Tuple[RuntimeInfo, ...]
    job_kinds: Tuple[str, ...]
    max_blob_bytes: int
    queued: int
    running: int
    memory_mb: Optional[int] = None
    power_meter: Optional[str] = None
    quarantined: Optional[str] = None
    emulation: Optional[Mapping[str, Any]] = None
    restrictions: Tuple[Restriction, ...] = ()
    hardware: Hardware = UNKNOWN_HARDWARE

    def to_json(self) -> Dict[str, Any]:
        return dict(
            self._asdict(),
            fingerprint=dict(self.fingerprint),
            runtimes=[runtime.to_json() for runtime in self.runtimes],
            job_kinds=list(self.job_kinds),
            emulation=None if self.emulation is None else dict(self.emulation),
            restrictions=[restriction.to_json() for restriction in self.restrictions],
            hardware=self.hardware.to_json(),
        )

    @classmethod
    def from_json(cls, value: Any, where: str = "device") -> "DeviceInfo":
        return cls(**json_reader.read_object(value, _DEVICE, where))


_DEVICE: Mapping[str, json_reader.Reader] = {
    "api_min": json_reader.integer(1),
    "api_max": json_reader.integer(1),
    "agent_version": json_reader.text,
    "device_id": json_reader.text,
    "kind": json_reader.text,
    "environment_id": json_reader.sha256,
    "fingerprint": json_reader.mapping(),
    "runtimes": json_reader.sequence(RuntimeInfo.from_json),
    "job_kinds": json_reader.sequence(json_reader.text),
    "max_blob_bytes": json_reader.integer(1),
    "queued": json_reader.integer(),
    "running": json_reader.integer(),
    "memory_mb": json_reader.optional(json_reader.integer(1)),
    "power_meter": json_reader.optional(json_reader.text),
    "quarantined": json_reader.optional(json_reader.text),
    "emulation": json_reader.optional(json_reader.mapping()),
    "restrictions": json_reader.sequence(Restriction.from_json),
    "hardware": Hardware.from_json,
}
