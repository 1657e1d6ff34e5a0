"""How many processes time a model, and which of its times are shown: those that were read, or those beside references.

On a quiet device both agree and the times as they were read (`raw`) are shown. A virtual machine, or one that other
work often slows down, shows what the ratio to the references gives on a quiet device (`paired`).
"""

import math
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.measure.child.phase_reports import ProcessReport
from vitsearch_agent.measure.figures.combine import is_contended, never_slept
from vitsearch_agent.measure.figures.paired_ratio import (
    MEMORY_BOUND_HALF_WIDTH,
    MINUTES_HALF_WIDTH,
    is_memory_bound,
    prior_weight,
    ratio,
)
from vitsearch_agent.measure.figures.reference_store import Observed, ReferenceKey, ReferenceStore
from vitsearch_agent.wire.distribution import median, median_interval
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.measurement import PAIRED, RAW
from vitsearch_agent.wire.paired import Milliseconds, Paired, cpu_ms, disagreement, wall_ms

CONTENDED_DISAGREEMENT = 0.05
"""The references disagree when that alone leaves the time open by this share in either direction."""
WORTH_ANOTHER = 0.93
"""A further process is measured only if the interval is expected to become narrower than this share of what it is: no
number of processes shows how a model shares a slowdown that only one reference has."""


class DeviceTimes(NamedTuple):
    """What is known of the device: its reference times, which `model` adds to, and whether it is virtual."""

    store: ReferenceStore
    key: ReferenceKey
    is_virtual: bool
    model: str = ""


class Timing:
    """The reports of the processes of one measurement, and what they show so far."""

    def __init__(
        self,
        protocol: MeasureProtocol,
        model_bytes: int,
        device: DeviceTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reports: List[ProcessReport] = []
        self._protocol = protocol
        self._model_bytes = model_bytes
        self._store, self._key, self._is_virtual, self._model = device
        self._clock = clock
        self._start_s = clock()
        self._widths: Dict[int, Optional[float]] = {}
        self._memory_bound: Dict[int, bool] = {}

    def add(self, report: ProcessReport, is_new: bool = True) -> None:
        """Add the report of a process, and the times of its references to those that are known, unless an earlier
        attempt has done so."""
        self.reports.append(report)
        observed = Observed.of(report) if is_new else None
        if observed is not None:
            self._store.add(self._key, self._model, [observed])

    def needs_another(self) -> bool:
        """Return whether to measure one more process."""
        count, protocol = len(self.reports), self._protocol
        if count < protocol.processes:
            return True
        if count >= protocol.max_processes or self._clock() - self._start_s >= protocol.budget_s:
            return False
        half = self._rel_half_width()
        return half is not None and half > protocol.target_rel_half_width > 0 and self._would_narrow(half)

    def _would_narrow(self, half: float) -> bool:
        """Return whether a further process would make the interval narrower: only the part of the processes shrinks."""
        fixed = self._fixed_half() if self._basis() == PAIRED else 0.0
        processes = math.sqrt(max(0.0, half**2 - fixed**2))
        narrower = math.hypot(processes * math.sqrt(len(self.reports) / (len(self.reports) + 1)), fixed)
        return narrower < WORTH_ANOTHER * half

    def _fixed_half(self) -> float:
        """Return the part of the half-width that further processes hardly change."""
        return math.hypot(self._left_open(), MEMORY_BOUND_HALF_WIDTH if self._is_memory_bound() else MINUTES_HALF_WIDTH)

    def fields(self) -> Dict[str, Any]:
        """Return the fields of a Measurement that say how the model was timed."""
        return {"paired": self._paired(), "basis": self._basis(), "processes": len(self.reports)}

    def flags(self) -> Tuple[str, ...]:
        if self._paired() is None:
            return ("contended",) if is_contended(self.reports, self._protocol.threads) else ()
        conditions = {
            "contended": self._left_open() > CONTENDED_DISAGREEMENT
            or (self._basis() == RAW and is_contended(self.reports, self._protocol.threads)),
            "memory_bound": self._basis() == PAIRED and self._is_memory_bound(),
        }
        return tuple(flag for flag, is_set in conditions.items() if is_set)

    def _left_open(self) -> float:
        """Return how far the two references leave the time open, as half an interval in natural logarithms."""
        paired = self._paired()
        if paired is None:
            return 0.0
        times = paired.times
        left_open = [disagreement(paired.cpu, times.products_cpu_ms / times.convolutions_cpu_ms)]
        if paired.wall is not None:
            left_open.append(disagreement(paired.wall, times.products_wall_ms / times.convolutions_wall_ms))
        return max(left_open)

    def _is_memory_bound(self) -> bool:
        """Return whether the references say little about this model; kept, as `_rel_half_width` is."""
        count = len(self.reports)
        if count not in self._memory_bound:
            self._memory_bound[count] = is_memory_bound(self.reports, self._model_bytes)
        return self._memory_bound[count]

    def reasons(self) -> Dict[str, str]:
        """Return why there are no ratios, and a note if the interval is wider than the protocol asks for."""
        reasons: Dict[str, str] = {}
        if self._paired() is None:
            reasons["paired"] = self._why_alone()
        half, target = self._rel_half_width(), self._protocol.target_rel_half_width
        if len(self.reports) < 2:
            reasons["interval"] = "one process: a 95 % interval needs at least two"
        elif half is not None and half > target > 0:
            reasons["interval"] = (
                f"+-{half:.1%} of the median after {len(self.reports)} processes; the protocol asks for +-{target:.1%}"
            )
            if "memory_bound" in self.flags():
                reasons["interval"] += (
                    f"; loading its {self._model_bytes / 1e6:.0f} MB of weights takes most of the time,"
                    " which depends on how much cache other processes leave for them"
                )
        return reasons

    def _why_alone(self) -> str:
        if self._protocol.reference is None:
            return "the protocol has no reference models"
        if not any(report.bursts for report in self.reports):
            return f"{self._key.runtime} cannot run the reference models beside this model"
        return "the clock is too coarse for the reference models"

    def _basis(self) -> str:
        if self._paired() is None:
            return RAW
        return PAIRED if self._is_virtual or self._store.is_disturbed(self._key) else RAW

    def _paired(self) -> Optional[Paired]:
        times = self._store.times(self._key)
        if times is None or not self.reports:
            return None
        expected = prior_weight(self._model_bytes), MEMORY_BOUND_HALF_WIDTH if self._is_memory_bound() else 0.0
        cpu = ratio(self.reports, lambda block: block.cpu_ms, *expected)
        wall = None
        if not never_slept(self.reports, self._protocol.threads):
            wall = ratio(self.reports, lambda block: block.wall_ms, *expected)
            if wall is None:
                return None
        return None if cpu is None else Paired(str(self._protocol.reference), cpu, wall, times)

    def _rel_half_width(self) -> Optional[float]:
        """Return half the width of the wider of the intervals that are shown, relative to its median.

        It is kept, because intervals of raw times take a moment on a slow device.
        """
        count = len(self.reports)
        if count not in self._widths:
            self._widths[count] = self._widest()
        return self._widths[count]

    def _widest(self) -> Optional[float]:
        paired = self._paired()
        if paired is not None and self._basis() == PAIRED:
            shown = [cpu_ms(paired, paired.times), wall_ms(paired, paired.times)]
        else:
            shown = [_raw([report.wall_ms for report in self.reports])]
            if all(report.cpu_ms for report in self.reports):
                shown.append(_raw([report.cpu_ms for report in self.reports]))
        halves = [half for half in map(_rel_half, shown) if half is not None]
        return max(halves) if halves else None


def _rel_half(times: Milliseconds) -> Optional[float]:
    if times.low is None or times.high is None or times.p50 == 0:
        return None
    return (times.high - times.low) / 2 / times.p50


def _raw(series: Sequence[Sequence[float]]) -> Milliseconds:
    return Milliseconds(median([value for values in series for value in values]), *median_interval(series))
