"""Monitor the device while it measures a model.

cool down --> read state --> run process, sample every 5 s --> read state      for each process
throttled: cool down and repeat the process, at most twice per measurement; then flag the result
"""

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.observation import SOAKED, Observation
from vitsearch_agent.conditions.swap import SwapTraffic, swap_traffic
from vitsearch_agent.conditions.thermal import Thermometer, ZoneTemperature, cool_down
from vitsearch_agent.conditions.throttling import (
    ThrottlingState,
    active_limits,
    compare,
    frequency_ratio,
    read_state,
    with_frequencies,
)
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.measurement import Temperature

REPEATS = 2
"""How many throttled processes of one measurement are repeated at most."""
NEAR_C = 3.0
"""A later process may start this much warmer than the first process of the measurement."""
REPEAT_COOLDOWN_S = 300.0

_INTERVAL_S = 5.0

Answer = Dict[str, Any]


def ignore_event(what: str, **details: Any) -> None:
    pass


class Monitor:
    """The monitor of one measurement.

    `stopped` ends every wait. `on_event` receives the events `cooling` and `retried` (see `events`).
    """

    def __init__(
        self,
        system: System,
        protocol: MeasureProtocol,
        stopped: Callable[[], bool],
        interval_s: float = _INTERVAL_S,
        on_event: Callable[..., None] = ignore_event,
    ) -> None:
        self.observations: List[Observation] = []
        self._system = system
        self._protocol = protocol
        self._stopped = stopped
        self._interval_s = interval_s
        self._on_event = on_event
        self._thermometer = Thermometer(system)
        self._first_start_c: Optional[float] = None
        self._repeats_left = REPEATS

    def run(self, phase: str, run: Callable[[], Answer]) -> Answer:
        """Run a process of this phase, add an observation and return its answer.

        While the device throttles the process and the measurement has repeats left, the process runs again.
        """
        protocol = self._protocol
        limit_c = protocol.start_max_c if self._first_start_c is None else self._near_first_start()
        is_warm = self._cool(limit_c, protocol.cooldown_max_s)
        answer, seen = self._observe(phase, run, is_warm)
        while seen.throttled and phase != SOAKED and self._repeats_left > 0 and not self._stopped():
            self._repeats_left -= 1
            self._on_event("retried", phase=phase, why=seen.throttling)
            is_warm = self._cool(self._near_first_start(), max(REPEAT_COOLDOWN_S, protocol.cooldown_max_s))
            answer, seen = self._observe(phase, run, is_warm)
        self.observations.append(seen)
        return answer

    def restore(self, seen: Observation) -> None:
        """Add an observation of an earlier attempt."""
        self.observations.append(seen)
        if self._first_start_c is None and seen.temperature is not None:
            self._first_start_c = seen.temperature.start_c

    def _near_first_start(self) -> Optional[float]:
        return None if self._first_start_c is None else self._first_start_c + NEAR_C

    def _cool(self, limit_c: Optional[float], at_most_s: float) -> bool:
        """Wait until the device is cool enough; return True when it is still too warm after `at_most_s`."""
        if limit_c is None or at_most_s == 0:
            return False
        waits: List[float] = []

        def sleep(seconds: float) -> None:
            if not waits:
                self._on_event("cooling", until_c=limit_c, at_most_s=at_most_s)
            waits.append(seconds)
            self._system.sleep(seconds)

        reporting = self._system._replace(sleep=sleep)
        return cool_down(self._thermometer, limit_c, at_most_s, reporting, self._stopped) is False

    def _observe(self, phase: str, run: Callable[[], Answer], is_warm: bool) -> Tuple[Answer, Observation]:
        before = self._state()
        if self._first_start_c is None and before.temperature is not None:
            self._first_start_c = before.temperature.celsius
        sampler = _BackgroundSampler(self._system, self._thermometer, self._interval_s)
        sampler.start()
        try:
            answer = run()
        finally:
            sampler.stop()
        after = self._state()
        verdict = compare(before.throttling, after.throttling, sorted(sampler.limits))
        verdict = with_frequencies(verdict, before.throttling, sampler.frequency_ratios)
        reasons: Dict[str, str] = {}
        temperature = swap_mb = None
        start, end = before.temperature, after.temperature
        if start is None or end is None:
            reasons["temperature"] = self._thermometer.reason or "the sensor could not be read before and after the run"
        else:
            hottest = max([start, end, *sampler.temperatures], key=lambda reading: reading.celsius)
            temperature = Temperature(hottest.zone, start.celsius, end.celsius, hottest.celsius)
        if before.swap.total_mb is None or after.swap.total_mb is None:
            reasons["swap_mb"] = str(before.swap.reason or after.swap.reason)
        else:
            swap_mb = max(0.0, after.swap.total_mb - before.swap.total_mb)
        return answer, Observation(phase, temperature, verdict.throttled, verdict.what, swap_mb, is_warm, reasons)

    def _state(self) -> "_State":
        return _State(self._thermometer.read(), read_state(self._system), swap_traffic(self._system))


class _State(NamedTuple):
    temperature: Optional[ZoneTemperature]
    throttling: ThrottlingState
    swap: SwapTraffic


class _BackgroundSampler(threading.Thread):
    """Sample temperatures, active limits and frequencies during a process.

    A sample reads a few small files, so seldom that it does not disturb the measurement.
    """

    def __init__(self, system: System, thermometer: Thermometer, every_s: float) -> None:
        super().__init__(name="sampler", daemon=True)
        self.temperatures: List[ZoneTemperature] = []
        self.limits: Set[str] = set()
        self.frequency_ratios: List[float] = []
        self._system = system
        self._thermometer = thermometer
        self._every_s = every_s
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every_s):
            temperature = self._thermometer.read()
            if temperature is not None:
                self.temperatures.append(temperature)
            self.limits.update(active_limits(self._system))
            fastest = frequency_ratio(self._system)
            if fastest is not None:
                self.frequency_ratios.append(fastest)

    def stop(self) -> None:
        self._ended.set()
        self.join()
