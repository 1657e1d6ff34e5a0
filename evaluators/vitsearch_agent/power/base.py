"""The plugin point for power meters: subclass PowerMeter, then run `testing.PowerMeterTestCase` on it."""

import abc
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import System, parse_number

SCOPES = ("module", "package", "rails", "gpu", "battery", "system")

MAX_W = 5000.0
"""No device that this agent measures uses more: a larger value comes from a register of all ones or a counter that
restarted."""


class Sample(NamedTuple):
    """One reading of a meter; exactly one of the two values is set.

    Attributes:
        time_s: The monotonic time of the reading.
        power_w: The power at that time, in watts.
        energy_j: A counter that only grows, in joules (the meter corrects a wrap-around); only its differences are
            meaningful.
    """

    time_s: float
    power_w: Optional[float] = None
    energy_j: Optional[float] = None


class Series(NamedTuple):
    """Samples of a meter in the order of their monotonic times.

    Attributes:
        times_s: The times, in seconds.
        values: Watts, or joules of a counter.
        counts: Whether they are joules of a counter.
    """

    times_s: Sequence[float]
    values: Sequence[float]
    counts: bool


class MeterAvailability(NamedTuple):
    """Whether a meter can be read, or the reason why not."""

    available: bool
    reason: Optional[str]


class MeterValue(NamedTuple):
    """A number, or None and the reason."""

    number: Optional[float]
    reason: Optional[str]


class PowerMeter(abc.ABC):
    """One source of power or energy.

    Attributes:
        name: The name under which it is registered.
        scope: What it measures: `module` (the board's input), `package` (the processor), `rails` (some of the board's
            supplies), `gpu`, `battery`, or `system` (at the wall).
        rate_hz: The highest rate of new values.
        averaging_s: A value is the mean of the last so many seconds, 0 for an instantaneous one.
        estimated: Whether a value is computed from others by a published correction.
        problem: The reason why the last sample is missing.
        records_itself: Whether it is not sampled while a model runs, because its record is read afterwards.
    """

    name: str = ""
    scope: str = ""
    rate_hz: float = 10.0
    averaging_s: float = 0.0
    estimated: bool = False
    problem: Optional[str] = None
    records_itself: bool = False

    option_readers: Mapping[str, json_reader.Reader] = {}
    """The readers of the optional keys of `power.options` in the device's configuration."""

    def __init__(self, system: System, options: Optional[Mapping[str, Any]] = None) -> None:
        """Read the options.

        Args:
            system: The files, commands and clock of the device. A test puts a folder in their place.
            options: `power.options` of the device's configuration.

        Raises:
            InvalidRequest: This meter does not have such an option.
        """
        self.system = system
        readers = self.option_readers
        self.options = json_reader.read_object(dict(options or {}), readers, "power.options", readers)

    @abc.abstractmethod
    def available(self) -> MeterAvailability:
        """Read the meter once and return whether that works.

        Returns:
            Whether it can be read, or the reason why not.
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Prepare for sampling, for example start a tool that prints a line at each interval."""

    @abc.abstractmethod
    def sample(self) -> Optional[Sample]:
        """Return a sample taken now. Never raises.

        Returns:
            The sample; None when the meter cannot be read at the moment, with the reason in `problem`.
        """

    def stop(self) -> None:  # noqa: B027 - most meters have nothing to stop
        """Stop what `start` started."""

    def timed_sample(self, read: Callable[[], MeterValue]) -> Optional[Sample]:
        """Return a sample of watts. Reading many rails takes a while, so its time is the middle of the reading.

        Args:
            read: Returns watts, or None with the reason.

        Returns:
            The sample; with None the reason is in `problem`.
        """
        before = self.system.clock()
        value = read()
        self.problem = value.reason
        return None if value.number is None else Sample((before + self.system.clock()) / 2, value.number)

    def recorded(self, start_s: float, end_s: float) -> Optional[Series]:
        """Return the record of a meter that `records_itself`. Called once, after `stop`.

        Args:
            start_s: The monotonic time from which on.
            end_s: The monotonic time until which.

        Returns:
            The samples between the two times; with None the reason is in `problem`.
        """
        return None


def plausible(watts: float, what: str) -> MeterValue:
    """Check a power. A running device always uses some: 0 W comes from a sensor that does not know its value.

    Args:
        watts: What was read.
        what: Where it was read, for the reason.

    Returns:
        `watts` if a running device can use that much, otherwise None with the reason.
    """
    if 0 < watts <= MAX_W:
        return MeterValue(watts, None)
    return MeterValue(None, f"{what} is {watts:g} W, expected more than 0 and at most {MAX_W:g} W")


def read_number(system: System, path: str) -> MeterValue:
    """Read a number in a file of the device.

    Args:
        system: The files of the device.
        path: The file.

    Returns:
        The number, or None and the reason.
    """
    reading = system.read(path)
    if reading.text is None:
        return MeterValue(None, reading.reason)
    number = parse_number(reading.text)
    if number is None:
        return MeterValue(None, f"{path} holds {reading.text[:40]!r}, expected a number")
    return MeterValue(number, None)
