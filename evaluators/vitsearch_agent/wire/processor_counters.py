"""What the processor counts; a file of its own, because every measuring child imports it."""

from typing import Any, Dict, NamedTuple

from vitsearch_agent.base import json_reader


class Counters(NamedTuple):
    """What the processor's own counters counted for each run, in millions."""

    instructions_m: float
    cycles_m: float

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "counters") -> "Counters":
        return cls(**json_reader.read_object(value, _COUNTERS, where))


_COUNTERS = {"instructions_m": json_reader.number(0.0), "cycles_m": json_reader.number(0.0)}
