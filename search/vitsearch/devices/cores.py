"""The processors of a machine that measures and trains.

A processor of the kernel is a hardware thread. Two of them on one core (SMT) slow each other down, and on a hybrid
machine some cores are slower than others: the kernel numbers an Intel's efficient ones last. So the device gets whole
cores of the fastest kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys/devices/system/cpu")
SAME_KIND = 0.85
"""Least speed, beside the fastest, of a core of its kind. Favoured cores of one kind are up to a tenth faster; the
efficient ones reach .8 of the others or less."""
CAN_PIN = hasattr(os, "sched_setaffinity")
"""Whether this system can keep a process on some of the processors."""


@dataclass(frozen=True)
class Cores:
    """The processors that measure, and those on which workers stay meanwhile; the same when there are no others."""

    device: tuple[int, ...]
    trainers: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(sorted({*self.device, *self.trainers}))

    @property
    def are_apart(self) -> bool:
        """Whether the device has cores that no worker needs."""
        return not set(self.device) & set(self.trainers)

    @classmethod
    def shared(cls, threads: int = 1) -> Cores:
        """Divide the processors of this process, see `divided`."""
        return divided(processors(), threads)

    @contextmanager
    def kept_free(self) -> Iterator[None]:
        """This process, and what it starts meanwhile, keeps off the device's cores."""
        if not CAN_PIN:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.trainers)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Processor:
    """A processor of the kernel by its `number`. `core` has the numbers of all on its core, `speed` is comparable
    within a machine alone."""

    number: int
    core: tuple[int, ...]
    speed: float


def divided(available: Sequence[Processor], threads: int) -> Cores:
    """Divide processors between measuring and training.

    Args:
        available: At least one.
        threads: Of a model that runs on the device.

    Returns:
        One processor for each thread, of as many cores of the fastest kind as there are, the last ones first. The
        others train, but for those that share a core with the device, if any are left then.
    """
    fast = fastest(available)
    order = sorted(available, key=lambda each: (_is_second(each, available), each not in fast, -each.number))
    device = {each.number for each in order[:threads]}
    numbers = {each.number for each in available}
    beside = {number for each in available if each.number in device for number in each.core}
    trainers = (numbers - beside) or (numbers - device) or numbers
    return Cores(tuple(sorted(device)), tuple(sorted(trainers)))


def fastest(available: Sequence[Processor]) -> list[Processor]:
    """Those of the fastest kind of core."""
    most = max(each.speed for each in available)
    return [each for each in available if each.speed >= SAME_KIND * most]


def processors(root: Path = SYSFS) -> list[Processor]:
    """Read which processors this process may use.

    Args:
        root: The kernel's folder of processors.

    Returns:
        Each with its core and its speed; what the kernel does not say makes every processor a core like all others.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return [_processor(root / f"cpu{number}", number) for number in sorted(allowed)]


def _processor(folder: Path, number: int) -> Processor:
    siblings = _numbers(_text(folder / "topology" / "thread_siblings_list"))
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        if (speed := _text(folder / name)).isdigit():
            return Processor(number, siblings or (number,), float(speed))
    return Processor(number, siblings or (number,), 1.0)


def _is_second(processor: Processor, available: Sequence[Processor]) -> bool:
    """Whether another processor of the same core, which may be used too, comes before it."""
    return any(each.number < processor.number and each.number in processor.core for each in available)


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a list of the kernel, such as `0,4` or `0-1`."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return tuple(numbers)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""
