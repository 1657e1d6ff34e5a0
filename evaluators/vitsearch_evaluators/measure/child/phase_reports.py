"""What a throughput process and a power process report."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_evaluators.base import json_reader
from vitsearch_evaluators.errors import InvalidRequest


class ThroughputReport(NamedTuple):
    """`images_per_s` over all streams together; `runs` of a batch were counted."""

    images_per_s: float
    runs: int

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "ThroughputReport":
        return cls(**json_reader.read_object(value, _THROUGHPUT, where))


_THROUGHPUT = {"images_per_s": json_reader.number(0.0), "runs": json_reader.integer(1)}


class PowerReport(NamedTuple):
    """When this process rested and when it worked, as (start, end) of the machine's monotonic clock in
    seconds; `inferences` counts the images of all runs between `load`'s two ends. `note` says what is special
    about the rests."""

    idle_before: Tuple[float, float]
    load: Tuple[float, float]
    idle_after: Tuple[float, float]
    inferences: int
    note: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "PowerReport":
        return cls(**json_reader.read_object(value, _POWER, where, {"note": None}))


def _window(value: Any, where: str) -> Tuple[float, float]:
    ends = json_reader.sequence(json_reader.number(), 2)(value, where)
    if len(ends) != 2:
        raise InvalidRequest(f"{where}: expected [start, end], got {value!r}")
    return ends[0], ends[1]


_POWER: Mapping[str, json_reader.Reader] = {
    "idle_before": _window,
    "load": _window,
    "idle_after": _window,
    "inferences": json_reader.integer(1),
    "note": json_reader.optional(json_reader.text),
}
