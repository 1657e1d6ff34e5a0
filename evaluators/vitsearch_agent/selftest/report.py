"""The file that `vitsearch-agent selftest` writes: what each step found, the device, and what was read of it."""

import os
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.selftest.recording import Recording
from vitsearch_agent.wire.device_info import DeviceInfo
from vitsearch_agent.wire.hardware import Hardware

FORMAT = 1
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
OUTCOMES = (PASSED, FAILED, SKIPPED)


class Finding(NamedTuple):
    """What a step found: one of OUTCOMES, a sentence, and values for those who read the file."""

    outcome: str
    message: str
    details: Mapping[str, Any] = {}


class StepResult(NamedTuple):
    """A step with its finding and the seconds that it took."""

    name: str
    outcome: str
    message: str
    seconds: float
    details: Mapping[str, Any]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), details=dict(self.details))

    @classmethod
    def from_json(cls, value: Any, where: str = "step") -> "StepResult":
        return cls(**json_reader.read_object(value, _STEP, where))


_STEP: Mapping[str, json_reader.Reader] = {
    "name": json_reader.text,
    "outcome": json_reader.one_of(*OUTCOMES),
    "message": json_reader.long_text(1 << 16),
    "seconds": json_reader.number(0),
    "details": json_reader.mapping(),
}


class SelftestReport(NamedTuple):
    """All of it. `device` is None where no agent could be started."""

    format: int
    agent: str
    started_at: str
    seconds: float
    steps: Tuple[StepResult, ...]
    device: Optional[DeviceInfo]
    recording: Recording

    @property
    def passed(self) -> bool:
        """Whether no step failed."""
        return all(step.outcome != FAILED for step in self.steps)

    def to_json(self) -> Dict[str, Any]:
        """Return the JSON, without what says whose board this is: the user's home, its name, serial numbers."""
        value = dict(
            self._asdict(),
            steps=[step.to_json() for step in self.steps],
            device=None if self.device is None else _nameless(self.device).to_json(),
            recording=self.recording.to_json(),
        )
        return dict(_homeless(value, os.path.expanduser("~")))

    @classmethod
    def from_json(cls, value: Any, where: str = "selftest") -> "SelftestReport":
        return cls(**json_reader.read_object(value, _REPORT, where))


_REPORT: Mapping[str, json_reader.Reader] = {
    "format": json_reader.integer(FORMAT, FORMAT),
    "agent": json_reader.text,
    "started_at": json_reader.text,
    "seconds": json_reader.number(0),
    "steps": json_reader.sequence(StepResult.from_json, 256),
    "device": json_reader.optional(DeviceInfo.from_json),
    "recording": Recording.from_json,
}


def _nameless(device: DeviceInfo) -> DeviceInfo:
    hardware = Hardware("", device.hardware.board, device.hardware.processor)
    return device._replace(hardware=hardware)


def _homeless(value: Any, home: str) -> Any:
    """Return JSON in whose texts `~` stands for the home of the user."""
    if isinstance(value, str):
        return value.replace(home, "~") if len(home) > 1 else value
    if isinstance(value, dict):
        return {key: _homeless(item, home) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_homeless(item, home) for item in value]
    return value
