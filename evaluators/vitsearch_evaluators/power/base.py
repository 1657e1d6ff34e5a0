"""The plugin point for power meters: subclass PowerMeter, then run `testing.PowerMeterTestCase` on it."""

import abc
from typing import Any, Mapping, NamedTuple, Optional

from vitsearch_evaluators.system import System


class Sample(NamedTuple):
    """One look at a meter. `time_s` is monotonic; exactly one of the two values is there.

    `power_w` is the power at that moment; `energy_j` a counter that only grows (wrap-around is
    taken out by the meter), of which differences count.
    """

    time_s: float
    power_w: Optional[float] = None
    energy_j: Optional[float] = None


class Found(NamedTuple):
    """Whether a meter can be read here; `reason` when not."""

    available: bool
    reason: Optional[str]


class PowerMeter(abc.ABC):
    """One source of power or energy.

    `scope` is what is behind the number: `module` (the board's input), `package` (the processor),
    `rails` (some of the board's supplies), `gpu`, `battery`, `system` (at the wall).
    `rate_hz` is how often a new value can be expected at most; `estimated` marks a value that is
    computed from others by a published correction.
    """

    name: str = ""
    scope: str = ""
    rate_hz: float = 10.0
    estimated: bool = False

    def __init__(self, system: System, options: Optional[Mapping[str, Any]] = None) -> None:
        self.system = system
        self.options = dict(options or {})

    @abc.abstractmethod
    def available(self) -> Found:
        """Say whether the meter is there and may be read, by reading it once."""

    @abc.abstractmethod
    def start(self) -> None:
        """Get ready (start a tool that prints a line at each interval); most have nothing to do."""

    @abc.abstractmethod
    def sample(self) -> Optional[Sample]:
        """Return a look at the meter now, None when it cannot be read just now. Never raises."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End what `start` began."""
