"""Energy counters that wrap around, restart or stand still."""

from typing import Optional

from vitsearch_agent.power.base import MAX_W, MeterValue


class Counter:
    """Converts the readings of one counter to a total that only grows, in joules.

    `range_j` is the value at which the counter wraps around, None if it never does. After an impossible
    step (the counter was reset, or it may have wrapped more than once) all further readings are rejected:
    differences across the step would be wrong.
    """

    def __init__(self, range_j: Optional[float] = None) -> None:
        self._range_j = range_j
        self._last_j: Optional[float] = None
        self._last_s = 0.0
        self._total_j = 0.0
        self._broken: Optional[str] = None

    def feed(self, reading_j: float, time_s: float) -> MeterValue:
        """Return the joules since the first reading, or None and the reason."""
        if self._broken is None:
            self._broken = self._advance(reading_j, time_s)
        return MeterValue(None, self._broken) if self._broken is not None else MeterValue(self._total_j, None)

    def _advance(self, reading_j: float, time_s: float) -> Optional[str]:
        last_j, last_s = self._last_j, self._last_s
        if reading_j < 0:
            return f"the counter is negative: {reading_j:g} J"
        self._last_j, self._last_s = reading_j, time_s
        if last_j is None:
            return None
        elapsed_s = max(0.0, time_s - last_s)
        step_j = reading_j - last_j
        if self._range_j is not None:
            if elapsed_s * MAX_W > self._range_j:
                return f"the counter was not read for {elapsed_s:.0f} s and may have wrapped around more than once"
            if step_j < 0:
                step_j += self._range_j
        # The tolerance of 0.1 s allows for the clock being read a little after the counter.
        if step_j < 0 or step_j > MAX_W * (elapsed_s + 0.1):
            return f"the counter restarted: it went from {last_j:g} to {reading_j:g} J in {elapsed_s:.3g} s"
        self._total_j += step_j
        return None
