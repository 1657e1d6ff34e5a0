"""The canary: a known model that is measured again and again, to detect that the device's speed has changed.

    good        the times are within `max_drift` of the reference
    drifted     twice in a row they are further away, by more than chance explains   --> quarantine
    unclear     between the two, or the reference is provisional

The times are those that a measurement shows (`Measurement.basis`), so on a machine that is shared with others they are
corrected by the reference models. A reference that was measured while other work disturbed even those is provisional,
and the next check replaces it: so there is a reference on a machine that is never idle, too.

Each environment has its own reference, because a device may have another speed after an update or in another power
mode. Results during a quarantine are flagged `unverified_device`, and so are those since the last good canary, as far
as the agent keeps them: what a client has fetched before is not. A good canary ends the quarantine.
"""

import json
import logging
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.config import CanaryConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server.canary_measurement import CanaryTimes
from vitsearch_agent.wire.paired import Milliseconds

logger = logging.getLogger(__name__)

FLAG = "unverified_device"
QUARANTINE_AGAIN_S = 60.0
UNVERIFIED_KEPT = 1000
ENVIRONMENTS_KEPT = 16


class CanaryReference(NamedTuple):
    """The times of the canary in an environment, measured first; `provisional` if other work disturbed them."""

    cpu_ms: float
    wall_ms: float
    provisional: bool

    @classmethod
    def from_json(cls, value: Any, where: str = "reference") -> "CanaryReference":
        return cls(**json_reader.read_object(value, _REFERENCE, where))


_REFERENCE = {
    "cpu_ms": json_reader.number(0.0),
    "wall_ms": json_reader.number(0.0),
    "provisional": json_reader.boolean,
}


class CanaryState(NamedTuple):
    """The state on the disk. `unverified`: the jobs done since the last good canary, oldest first."""

    references: Dict[str, CanaryReference] = {}
    unverified: Sequence[str] = ()
    quarantined: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        references = {key: dict(reference._asdict()) for key, reference in self.references.items()}
        return dict(self._asdict(), references=references, unverified=list(self.unverified))

    @classmethod
    def from_json(cls, value: Any, where: str = "canary") -> "CanaryState":
        return cls(**json_reader.read_object(value, _STATE, where))


_STATE: Dict[str, json_reader.Reader] = {
    "references": json_reader.mapping(CanaryReference.from_json),
    "unverified": json_reader.sequence(json_reader.text),
    "quarantined": json_reader.optional(json_reader.text),
}


class Canary:
    """Decides when to measure the canary, and judges it. For the worker's thread; others may read `quarantined`."""

    def __init__(self, path: str, config: CanaryConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._config = config
        self._clock = clock
        self._state = _load(path)
        self._checked_at = clock()
        self._jobs = len(self._state.unverified)

    @property
    def quarantined(self) -> Optional[str]:
        """Why this device's numbers are not trusted now; None if they are."""
        return self._state.quarantined

    def provisional(self, environment_id: str) -> bool:
        """Return whether an environment has a reference that other work disturbed."""
        reference = self._state.references.get(environment_id)
        return reference is not None and reference.provisional

    def job_done(self, job_id: str) -> None:
        """Count a measured job."""
        self._jobs += 1
        kept = (*self._state.unverified, job_id)[-UNVERIFIED_KEPT:]
        self._keep(self._state._replace(unverified=kept))

    def due(self, idle: bool) -> bool:
        """Whether to measure the canary now: after a number of jobs or seconds, if there are results to verify.

        The first one, which becomes the reference, is due as soon as the device is idle.
        """
        since_s = self._clock() - self._checked_at
        if self.quarantined is not None:
            return since_s >= min(QUARANTINE_AGAIN_S, self._config.every_s)
        if self._jobs == 0:
            return False
        first = idle and not self._state.references
        return first or self._jobs >= self._config.every_jobs or since_s >= self._config.every_s

    def check(
        self, environment_id: str, measure: Callable[[], CanaryTimes], flag: Callable[[Sequence[str]], None]
    ) -> None:
        """Measure the canary and judge it; call `flag` with the jobs whose results are no longer trusted.

        The list of these jobs is cleared only after that: if the agent is killed in between, it flags them after the
        next check.
        """
        times = measure()
        reference = self._state.references.get(environment_id)
        if reference is None or reference.provisional:
            self._adopt(environment_id, times)
            return
        reason = drift(reference, times, self._config.max_drift)
        if reason is not None:
            # Measure again before the verdict: the cause may have been temporary.
            times = measure()
            reason = drift(reference, times, self._config.max_drift)
        self.postpone()
        if reason is not None:
            logger.warning("quarantine: %s", reason)
            flag(self._state.unverified)
            self._keep(self._state._replace(quarantined=reason, unverified=()))
        elif is_good(reference, times, self._config.max_drift):
            self._keep(self._state._replace(quarantined=None, unverified=()))

    def postpone(self) -> None:
        """Start to count again until the next check, also if the canary could not be measured."""
        self._checked_at, self._jobs = self._clock(), 0

    def _adopt(self, environment_id: str, times: CanaryTimes) -> None:
        """Make the first times in an environment its reference, until better ones if there was other load."""
        self.postpone()
        adopted = CanaryReference(times.cpu.p50, times.wall.p50, times.contended)
        references = dict(self._state.references, **{environment_id: adopted})
        kept = dict(list(references.items())[-ENVIRONMENTS_KEPT:])
        self._keep(CanaryState(kept, (), None))

    def _keep(self, state: CanaryState) -> None:
        self._state = state
        try:
            write_json(self._path, state.to_json())
        except OSError as error:  # a full disk does not stop the measuring
            logger.warning("%s cannot be written: %s", self._path, error)


def drift(reference: CanaryReference, times: CanaryTimes, max_drift: float) -> Optional[str]:
    """Describe the drift if the whole interval of a time is outside the allowed range, else return None.

    With other load on the device only CPU time is judged, because wall time then says nothing about the device.
    """
    for name, reference_ms, now in _pairs(reference, times):
        low, high = _interval(now)
        if low > reference_ms * (1.0 + max_drift) or high < reference_ms * (1.0 - max_drift):
            share = now.p50 / reference_ms - 1.0 if reference_ms > 0 else float("inf")
            return (
                f"the canary's {name} is {now.p50:.4g} ms ({low:.4g} to {high:.4g}), {share:+.1%} "
                f"from the reference of {reference_ms:.4g} ms; the limit is {max_drift:.1%}"
            )
    return None


def is_good(reference: CanaryReference, times: CanaryTimes, max_drift: float) -> bool:
    """Whether the times are within the allowed range of the reference."""
    return all(
        abs(now.p50 - reference_ms) <= max_drift * reference_ms for _, reference_ms, now in _pairs(reference, times)
    )


def _interval(times: Milliseconds) -> Tuple[float, float]:
    """Return the interval; the median twice in place of an interval that is unknown."""
    return times.p50 if times.low is None else times.low, times.p50 if times.high is None else times.high


def _pairs(reference: CanaryReference, times: CanaryTimes) -> List[Any]:
    pairs = [("CPU time", reference.cpu_ms, times.cpu)]
    return pairs if times.contended else [*pairs, ("latency", reference.wall_ms, times.wall)]


def _load(path: str) -> CanaryState:
    """Read the state from the disk; an unreadable file counts as a missing one."""
    try:
        with open(path) as stream:
            return CanaryState.from_json(json.load(stream))
    except FileNotFoundError:
        return CanaryState()
    except (OSError, ValueError, InvalidRequest) as error:
        logger.warning("%s cannot be read and is ignored: %s", path, error)
        return CanaryState()
