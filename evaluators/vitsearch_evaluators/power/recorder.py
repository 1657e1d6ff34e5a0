"""Look at a meter again and again while a model runs, and say what it used."""

import array
import logging
import random
import threading
import time
from typing import Callable, Iterator, Optional, TypeVar

from vitsearch_evaluators.power.base import PowerMeter, Sample, Series

logger = logging.getLogger(__name__)

MAX_HZ = 20.0
"""More looks than this cost more on a small board than they tell."""

_MIN_HZ = 1.0
_LONGEST_LOOK_S = 15.0

Answer = TypeVar("Answer")


def jittered(period_s: float) -> Iterator[float]:
    """Yield pauses of `period_s` in the mean, a quarter more or less.

    At even ones, a model whose runs take as long would always be looked at in the same layer.
    """
    generator = random.Random(0)
    while True:
        yield period_s * generator.uniform(0.75, 1.25)


class Recorder:
    """`start`, then the load, then `stop` and `series`.

    Nothing here raises and nothing is written: a meter that fails costs the power, never the
    measurement. A meter that is slower than its rate is looked at as often as it answers. `problem`
    says why the last look gave nothing.
    """

    def __init__(self, meter: PowerMeter, max_hz: float = MAX_HZ) -> None:
        self._meter = meter
        self._period_s = 1.0 / max(_MIN_HZ, min(meter.rate_hz, max_hz))
        self._times_s = array.array("d")
        self._values = array.array("d")
        self._counts: Optional[bool] = None
        self._error: Optional[str] = None
        self._done = threading.Event()
        self._thread: Optional[threading.Thread] = None

    @property
    def problem(self) -> Optional[str]:
        return self._error or self._meter.problem

    def start(self) -> None:
        self._safely(self._meter.start)
        if not self._meter.records_itself and self._error is None:
            self._thread = threading.Thread(target=self._look, name="power", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_LOOK_S)
        self._safely(self._meter.stop)

    def series(self, start_s: float, end_s: float) -> Series:
        """Return what is known between two monotonic times, and a little around them."""
        series = Series(self._times_s, self._values, bool(self._counts))
        if self._meter.records_itself:
            series = self._safely(lambda: self._meter.recorded(start_s, end_s)) or series
        return series

    def _look(self) -> None:
        due = time.monotonic()
        pauses = jittered(self._period_s)
        while not self._done.wait(max(0.0, due - time.monotonic())) and self._error is None:
            self._keep(self._safely(self._meter.sample))
            # Looks that came too late are left out, not made up for.
            due = max(due + next(pauses), time.monotonic())

    def _keep(self, sample: Optional[Sample]) -> None:
        if sample is None:
            return
        counts = sample.power_w is None
        value = sample.energy_j if counts else sample.power_w
        if self._counts is None:
            self._counts = counts
        # The same time again is the same value: the meter has nothing new.
        if value is not None and counts == self._counts and (not self._times_s or sample.time_s > self._times_s[-1]):
            self._times_s.append(sample.time_s)
            self._values.append(value)

    def _safely(self, action: Callable[[], Optional[Answer]]) -> Optional[Answer]:
        try:
            return action()
        except Exception as error:
            logger.warning("power meter %s", self._meter.name, exc_info=True)
            self._error = f"{type(error).__name__}: {error}"
            return None
