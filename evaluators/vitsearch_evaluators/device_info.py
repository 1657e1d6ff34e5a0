"""What a device says of itself: its runtimes, its environment, how busy it is."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_evaluators import strict

ANY_ARTIFACT = "any"
"""Stands in `RuntimeInfo.artifacts` for a runtime that does not look into the file."""


class RuntimeInfo(NamedTuple):
    """A runtime of the device; `reason` says why it is not available, None when it is.

    `artifacts` are the kinds of files that it takes (`onnx`, `tflite`, `openvino`); `max_opset` and
    `max_ir_version` the newest ONNX that it reads, None where it does not say. A client asks here
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
        return cls(**strict.read_object(value, _RUNTIME, where))


_RUNTIME = {
    "name": strict.text,
    "available": strict.boolean,
    "reason": strict.optional(strict.text),
    "version": strict.optional(strict.text),
    "providers": strict.sequence(strict.text),
    "artifacts": strict.sequence(strict.text),
    "max_opset": strict.optional(strict.integer(1)),
    "max_ir_version": strict.optional(strict.integer(1)),
    "precisions": strict.sequence(strict.text),
    "program": strict.optional(strict.text),
}


class DeviceInfo(NamedTuple):
    """What answers at an address. `environment_id` is the digest of `fingerprint`.

    `kind` is `physical` or `emulated`; `emulation` then says how. `power_meter` is the source that
    power phases read, None when there is none. `quarantined` says why the device's numbers are not
    trusted now (its canary drifted), None when they are.
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

    def to_json(self) -> Dict[str, Any]:
        return dict(
            self._asdict(),
            fingerprint=dict(self.fingerprint),
            runtimes=[runtime.to_json() for runtime in self.runtimes],
            job_kinds=list(self.job_kinds),
            emulation=None if self.emulation is None else dict(self.emulation),
        )

    @classmethod
    def from_json(cls, value: Any, where: str = "device") -> "DeviceInfo":
        return cls(**strict.read_object(value, _DEVICE, where))


_DEVICE: Mapping[str, strict.Reader] = {
    "api_min": strict.integer(1),
    "api_max": strict.integer(1),
    "agent_version": strict.text,
    "device_id": strict.text,
    "kind": strict.text,
    "environment_id": strict.sha256,
    "fingerprint": strict.mapping(),
    "runtimes": strict.sequence(RuntimeInfo.from_json),
    "job_kinds": strict.sequence(strict.text),
    "max_blob_bytes": strict.integer(1),
    "queued": strict.integer(),
    "running": strict.integer(),
    "memory_mb": strict.optional(strict.integer(1)),
    "power_meter": strict.optional(strict.text),
    "quarantined": strict.optional(strict.text),
    "emulation": strict.optional(strict.mapping()),
}
