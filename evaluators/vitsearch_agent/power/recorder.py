"""Sample a power meter in a thread while a model runs."""

import array
import logging
import random
import threading
import time
from typing import Callable, Iterator, Optional, TypeVar

from vitsearch_agent.power.base import PowerMeter, Sample, Series

logger = logging.getLogger(__name__)

MAX_HZ = 20.0
"""A higher rate would disturb a small board more than it improves the result."""

_MIN_HZ = 1.0
_LONGEST_SAMPLE_S = 15.0

Answer = TypeVar("Answer")


def jittered(period_s: float) -> Iterator[float]:
    """Yield intervals with the mean `period_s`, varied by up to a quarter.

    With equal intervals, a model whose run takes as long would always be sampled in the same layer.
    """
    generator = random.Random(0)
    while True:
        yield period_s * generator.uniform(0.75, 1.25)


class Recorder:
    """Records a meter: call `start`, run the load, then call `stop` and `series`.

    No method raises: a failing meter costs the power, never the measurement. A meter that answers more
    slowly than its rate is sampled as often as it answers. `problem` is the reason why the last sample is
    missing.
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
            self._thread = threading.Thread(target=self._sample_loop, name="power", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_SAMPLE_S)
        self._safely(self._meter.stop)

    def series(self, start_s: float, end_s: float) -> Series:
        """Return the samples between two monotonic times, and perhaps some around them."""
        series = Series(self._times_s, self._values, bool(self._counts))
        if self._meter.records_itself:
            series = self._safely(lambda: self._meter.recorded(start_s, end_s)) or series
        return series

    def _sample_loop(self) -> None:
        due = time.monotonic()
        intervals = jittered(self._period_s)
        while not self._done.wait(max(0.0, due - time.monotonic())) and self._error is None:
            self._keep(self._safely(self._meter.sample))
            # A late sample does not shorten the following intervals.
            due = max(due + next(intervals), time.monotonic())

    def _keep(self, sample: Optional[Sample]) -> None:
        if sample is None:
            return
        counts = sample.power_w is None
        value = sample.energy_j if counts else sample.power_w
        if self._counts is None:
            self._counts = counts
        # A repeated time is a repeated value: the meter has no new one.
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
