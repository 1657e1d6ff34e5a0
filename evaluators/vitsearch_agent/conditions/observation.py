"""What the agent observed of the device during each process, summarized for the whole measurement."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from vitsearch_agent.base import json_reader
from vitsearch_agent.conditions.swap import SWAPPED_MB
from vitsearch_agent.wire.measurement import Temperature


class Observation(NamedTuple):
    """The device during one process. `temperature` or `swap_mb` None: `reasons` has the reason.

    `throttled` is None when it is unknown, as without a counter; `throttling` names the counters that moved, or
    the reason for None. `warm_start`: the device had not cooled down in time before the process.
    """

    phase: str
    temperature: Optional[Temperature]
    throttled: Optional[bool]
    throttling: Optional[str]
    swap_mb: Optional[float]
    warm_start: bool
    reasons: Mapping[str, str]

    def to_json(self) -> Dict[str, Any]:
        temperature = None if self.temperature is None else self.temperature.to_json()
        return dict(self._asdict(), temperature=temperature, reasons=dict(self.reasons))

    @classmethod
    def from_json(cls, value: Any, where: str = "observation") -> "Observation":
        return cls(**json_reader.read_object(value, _OBSERVATION, where))


_OBSERVATION: Mapping[str, json_reader.Reader] = {
    "phase": json_reader.text,
    "temperature": json_reader.optional(Temperature.from_json),
    "throttled": json_reader.optional(json_reader.boolean),
    "throttling": json_reader.optional(json_reader.text),
    "swap_mb": json_reader.optional(json_reader.number()),
    "warm_start": json_reader.boolean,
    "reasons": json_reader.mapping(json_reader.text),
}


class Summary(NamedTuple):
    """The fields of a Measurement that follow from the observations of all its processes."""

    temperature: Optional[Temperature]
    swap_mb: Optional[float]
    flags: Sequence[str]
    reasons: Mapping[str, str]


def summarize(observations: Sequence[Observation]) -> Summary:
    """Combine the observations of one measurement, in the order of its processes.

    Any throttled process sets the flag `throttled`. A process outside the sustained phase is only recorded
    as throttled after its repeats, so it sets `sustained_throttling` too.
    """
    reasons: Dict[str, str] = {}
    for seen in observations:
        reasons.update(seen.reasons)
    flags: List[str] = []
    if any(seen.warm_start for seen in observations):
        flags.append("warm_start")
    throttled = [seen for seen in observations if seen.throttled]
    if throttled:
        flags.append("throttled")
        reasons["throttling"] = "; ".join(f"{seen.phase}: {seen.throttling}" for seen in throttled)
    if any(seen.phase != SOAKED for seen in throttled):
        flags.append("sustained_throttling")
    unknown = [str(seen.throttling) for seen in observations if seen.throttled is None]
    if unknown and not throttled:
        reasons["throttling"] = unknown[0]
    swap_mb = None
    parts = [seen.swap_mb for seen in observations]
    if None not in parts:
        swap_mb = sum(part for part in parts if part is not None)
        if swap_mb >= SWAPPED_MB:
            flags.append("swapped")
    return Summary(_temperature(observations), swap_mb, tuple(flags), reasons)


def _temperature(observations: Sequence[Observation]) -> Optional[Temperature]:
    every = [seen.temperature for seen in observations if seen.temperature is not None]
    if not every or len(every) < len(observations):
        return None
    hottest = max(every, key=lambda temperature: temperature.max_c)
    return Temperature(hottest.zone, every[0].start_c, every[-1].end_c, hottest.max_c)


SOAKED = "sustained"
"""The phase that measures a hot device: throttling there is expected and not repeated."""
