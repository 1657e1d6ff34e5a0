"""Watches the device while a model is measured on it.

cool down --> look --> process, with a glance every few seconds --> look      for each process
throttled: cool down and take the same process again, twice at most; then say so
"""

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from vitsearch_evaluators.base.atomic_files import write_json
from vitsearch_evaluators.base.canonical_json import parse_json
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.conditions.observation import SOAKED, Observation
from vitsearch_evaluators.conditions.swap import Swapped, swapped
from vitsearch_evaluators.conditions.thermal import Heat, Thermometer, cool_down
from vitsearch_evaluators.conditions.throttling import Look, active_limits, compare, look, pace
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.wire.job_spec import MeasureProtocol
from vitsearch_evaluators.wire.measurement import Temperature

REPEATS = 2
"""So often, over all processes of a measurement, one that was throttled is taken again."""
NEAR_C = 3.0
"""How much warmer than the first process of a measurement a later one may start."""
REPEAT_COOLDOWN_S = 300.0

_GLANCE_S = 5.0
_SLOW = 0.9

Answer = Dict[str, Any]


def tell_nobody(what: str, **details: Any) -> None:
    pass


class Watch:
    """One for each measurement. `stopped` ends every wait; `tell` hears why there is one (see `events`)."""

    def __init__(
        self,
        system: System,
        protocol: MeasureProtocol,
        stopped: Callable[[], bool],
        glance_s: float = _GLANCE_S,
        tell: Callable[..., None] = tell_nobody,
    ) -> None:
        self.observations: List[Observation] = []
        self._system = system
        self._protocol = protocol
        self._stopped = stopped
        self._glance_s = glance_s
        self._tell = tell
        self._thermometer = Thermometer(system)
        self._first_start_c: Optional[float] = None
        self._repeats_left = REPEATS

    def over(self, phase: str, run: Callable[[], Answer], kept: str) -> Answer:
        """Return the answer of `run`, a process of this phase; it is repeated while the device throttles it, as
        long as the measurement has repeats left.

        What was seen is in the file `kept` before this returns, for an agent that comes after us.
        """
        protocol = self._protocol
        limit_c = protocol.start_max_c if self._first_start_c is None else self._near_first_start()
        is_warm = self._cool(limit_c, protocol.cooldown_max_s)
        answer, seen = self._observe(phase, run, is_warm)
        while seen.throttled and phase != SOAKED and self._repeats_left > 0 and not self._stopped():
            self._repeats_left -= 1
            self._tell("retried", phase=phase, why=seen.throttling)
            is_warm = self._cool(self._near_first_start(), max(REPEAT_COOLDOWN_S, protocol.cooldown_max_s))
            answer, seen = self._observe(phase, run, is_warm)
        self.observations.append(seen)
        write_json(kept, seen.to_json())
        return answer

    def recall(self, kept: str) -> bool:
        """Take over what an earlier attempt saw of a process; False when it did not come to that, or it is spoilt."""
        try:
            with open(kept, "rb") as stream:
                seen = Observation.from_json(parse_json(stream.read()))
        except (OSError, ValueError, InvalidRequest):
            return False
        self.observations.append(seen)
        if self._first_start_c is None and seen.temperature is not None:
            self._first_start_c = seen.temperature.start_c
        return True

    def _near_first_start(self) -> Optional[float]:
        return None if self._first_start_c is None else self._first_start_c + NEAR_C

    def _cool(self, limit_c: Optional[float], at_most_s: float) -> bool:
        """Return True when the device is still too warm after the time that it may take."""
        if limit_c is None or at_most_s == 0:
            return False
        told: List[float] = []

        def sleep(seconds: float) -> None:
            if not told:
                self._tell("cooling", until_c=limit_c, at_most_s=at_most_s)
            told.append(seconds)
            self._system.sleep(seconds)

        patient = self._system._replace(sleep=sleep)
        return cool_down(self._thermometer, limit_c, at_most_s, patient, self._stopped) is False

    def _observe(self, phase: str, run: Callable[[], Answer], is_warm: bool) -> Tuple[Answer, Observation]:
        before = self._state()
        if self._first_start_c is None and before.heat is not None:
            self._first_start_c = before.heat.celsius
        glances = _Glances(self._system, self._thermometer, self._glance_s)
        glances.start()
        try:
            answer = run()
        finally:
            glances.stop()
        after = self._state()
        verdict = compare(before.look, after.look, sorted(glances.limits))
        reasons: Dict[str, str] = {}
        temperature = swap_mb = None
        if before.heat is None or after.heat is None:
            reasons["temperature"] = self._thermometer.reason or "the sensor could not be read at both ends"
        else:
            hottest = max([before.heat, after.heat] + glances.heats, key=lambda heat: heat.celsius)
            temperature = Temperature(hottest.zone, before.heat.celsius, after.heat.celsius, hottest.celsius)
        if before.swap.total_mb is None or after.swap.total_mb is None:
            reasons["swap_mb"] = str(before.swap.reason or after.swap.reason)
        else:
            swap_mb = max(0.0, after.swap.total_mb - before.swap.total_mb)
        what = verdict.what
        if verdict.throttled is None and glances.paces and max(glances.paces) < _SLOW:
            what = f"{what}; no processor was seen above {max(glances.paces):.0%} of its highest frequency"
        return answer, Observation(phase, temperature, verdict.throttled, what, swap_mb, is_warm, reasons)

    def _state(self) -> "_State":
        return _State(self._thermometer.read(), look(self._system), swapped(self._system))


class _State(NamedTuple):
    heat: Optional[Heat]
    look: Look
    swap: Swapped


class _Glances(threading.Thread):
    """Temperatures and limits in force during a process: a few small files, so seldom that it costs nothing."""

    def __init__(self, system: System, thermometer: Thermometer, every_s: float) -> None:
        super().__init__(name="glances", daemon=True)
        self.heats: List[Heat] = []
        self.limits: Set[str] = set()
        self.paces: List[float] = []
        self._system = system
        self._thermometer = thermometer
        self._every_s = every_s
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every_s):
            heat = self._thermometer.read()
            if heat is not None:
                self.heats.append(heat)
            self.limits.update(active_limits(self._system))
            fastest = pace(self._system)
            if fastest is not None:
                self.paces.append(fastest)

    def stop(self) -> None:
        self._ended.set()
        self.join()
