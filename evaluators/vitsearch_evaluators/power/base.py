"""The plugin point for power meters: subclass PowerMeter, then run `testing.PowerMeterTestCase` on it."""

import abc
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from vitsearch_evaluators.base import json_reader
from vitsearch_evaluators.base.system import System, parse_number

SCOPES = ("module", "package", "rails", "gpu", "battery", "system")

MAX_W = 5000.0
"""No device that this agent measures uses more: what tells more is a register of all ones, or a counter that
began again."""


class Sample(NamedTuple):
    """One look at a meter. `time_s` is monotonic; exactly one of the two values is there.

    `power_w` is the power at that moment; `energy_j` a counter that only grows (wrap-around is
    taken out by the meter), of which differences count.
    """

    time_s: float
    power_w: Optional[float] = None
    energy_j: Optional[float] = None


class Series(NamedTuple):
    """Looks at a meter in the order of their monotonic times: watts, or joules of a counter (`counts`)."""

    times_s: Sequence[float]
    values: Sequence[float]
    counts: bool


class MeterAvailability(NamedTuple):
    """Whether a meter can be read here; `reason` when not."""

    available: bool
    reason: Optional[str]


class Value(NamedTuple):
    """A number that was read, or None and the reason why not."""

    number: Optional[float]
    reason: Optional[str]


class PowerMeter(abc.ABC):
    """One source of power or energy.

    `scope` is what is behind the number: `module` (the board's input), `package` (the processor),
    `rails` (some of the board's supplies), `gpu`, `battery`, `system` (at the wall).
    `rate_hz` is how often a new value can be expected at most; a value tells of the last `averaging_s`
    seconds, where a meter averages. `estimated` marks a value that is
    computed from others by a published correction. `problem` says why the last look gave nothing.
    A meter that `records_itself` is not looked at while a model runs, but asked for its record.
    """

    name: str = ""
    scope: str = ""
    rate_hz: float = 10.0
    averaging_s: float = 0.0
    estimated: bool = False
    problem: Optional[str] = None
    records_itself: bool = False

    option_readers: Mapping[str, json_reader.Reader] = {}
    """What `power.options` of the device's configuration may hold; each may be left out."""

    def __init__(self, system: System, options: Optional[Mapping[str, Any]] = None) -> None:
        """Raises InvalidRequest for an option that this meter does not have."""
        self.system = system
        readers = self.option_readers
        self.options = json_reader.read_object(dict(options or {}), readers, "power.options", readers)

    @abc.abstractmethod
    def available(self) -> MeterAvailability:
        """Say whether the meter is there and may be read, by reading it once."""

    @abc.abstractmethod
    def start(self) -> None:
        """Get ready (start a tool that prints a line at each interval); most have nothing to do."""

    @abc.abstractmethod
    def sample(self) -> Optional[Sample]:
        """Return a look at the meter now, None when it cannot be read just now. Never raises."""

    def stop(self) -> None:  # noqa: B027 - there is nothing to end for most
        """End what `start` began."""

    def timed_sample(self, read: Callable[[], Value]) -> Optional[Sample]:
        """Return the watts that `read` finds; None leaves the reason in `problem`.

        Reading may take a while, rail after rail: the moment is its middle.
        """
        before = self.system.clock()
        value = read()
        self.problem = value.reason
        return None if value.number is None else Sample((before + self.system.clock()) / 2, value.number)

    def recorded(self, start_s: float, end_s: float) -> Optional[Series]:
        """Return what a meter that `records_itself` wrote between two monotonic times.

        Asked once, after `stop`; None leaves the reason in `problem`.
        """
        return None


def plausible(watts: float, what: str) -> Value:
    """Return a power that a device can have; None with the reason for any other number."""
    if 0 <= watts <= MAX_W:
        return Value(watts, None)
    return Value(None, f"{what} is {watts:g} W, which no device uses")


def read_number(system: System, path: str) -> Value:
    """Return the number in a file of the device, or the reason why there is none."""
    reading = system.read(path)
    if reading.text is None:
        return Value(None, reading.reason)
    number = parse_number(reading.text)
    if number is None:
        return Value(None, f"{path} holds {reading.text[:40]!r}, which is no number")
    return Value(number, None)
