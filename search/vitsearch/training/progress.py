"""How far a training is, for people who wait for it: epoch, the first metric of the task so far, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from vitsearch.core.activity import current, duration

REPORT_S = 1.0
"""Between two texts: making one takes longer than counting a batch."""
MEMORY = 0.98
"""The weight of all earlier batches in the figure so far: it is about that of the last fifty."""
SLOW_STEPS = 2
"""Steps that say nothing of the time left: memory is reserved and kernels are chosen in the first ones."""


class TrainingProgress:
    """Counts the `steps` of a training of `epochs` epochs, and tells the work that it belongs to. `metric` names the
    figure that it shows; `before` steps were taken before a kill."""

    def __init__(
        self, epochs: float, steps: int, metric: str, before: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._epochs = epochs
        self._steps = steps
        self._metric = metric
        self._clock = clock
        self._work = current()
        self._timed_from_s = self._reported_s = clock()
        self._before = before
        self._done = before
        self._sum = self._seen = 0.0

    def step(self, figure: float, images: int) -> None:
        """One step has ended, with this figure of its batch."""
        self._sum = MEMORY * self._sum + figure * images
        self._seen = MEMORY * self._seen + images
        self._done += 1
        now = self._clock()
        if self._done == self._before + SLOW_STEPS:
            self._timed_from_s = now
        if self._done == self._steps or now - self._reported_s >= REPORT_S:
            self._reported_s, self._work.text = now, self._text(now)

    def _text(self, now: float) -> str:
        epoch = max(1, math.ceil(self._done / self._steps * self._epochs))
        text = f"epoch {epoch}/{math.ceil(self._epochs)}, train {self._metric} {self._sum / self._seen:.2f}"
        if self._done == self._steps:
            return f"{text}, evaluating"
        if (timed := self._done - self._before - SLOW_STEPS) <= 0:
            return text
        left_s = (now - self._timed_from_s) / timed * (self._steps - self._done)
        return f"{text}, {duration(left_s)} left"
