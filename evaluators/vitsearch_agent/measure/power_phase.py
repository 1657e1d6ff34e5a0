"""The power phase of a job: find the meter, record it, and evaluate the samples in the child's windows."""

from typing import Optional, Tuple

from vitsearch_agent import power
from vitsearch_agent.base.system import System
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import AgentError
from vitsearch_agent.measure.child.phase_reports import PowerReport
from vitsearch_agent.measure.figures.energy import evaluate
from vitsearch_agent.measure.measure_job import PowerRecorder
from vitsearch_agent.power.base import PowerMeter
from vitsearch_agent.power.recorder import Recorder
from vitsearch_agent.wire.measurement import Power


class MeteredPhase(PowerRecorder):
    """Finds and records the device's power meter; `meter` is the name of the last one found, None without one.

    The search is repeated before each phase: a battery may be charging now, a logger may run again.
    """

    def __init__(self, config: PowerConfig, system: System) -> None:
        self.meter: Optional[str] = None
        self._config = config
        self._system = system
        self._power_meter: Optional[PowerMeter] = None
        self._recorder: Optional[Recorder] = None

    def unavailable_reason(self) -> Optional[str]:
        try:
            self._power_meter, reason = power.find(self._config, self._system)
        except AgentError as error:  # a package installed since the start may define a meter twice
            self._power_meter, reason = None, str(error)
        self.meter = None if self._power_meter is None else self._power_meter.name
        return reason

    def start(self) -> None:
        if self._power_meter is not None:
            self._recorder = Recorder(self._power_meter)
            self._recorder.start()

    def stop(self) -> None:
        if self._recorder is not None:
            self._recorder.stop()

    def power(self, report: PowerReport) -> Tuple[Optional[Power], Optional[str]]:
        if self._power_meter is None or self._recorder is None:
            return None, "no power meter"
        series = self._recorder.series(report.idle_before[0], report.idle_after[1])
        power, reason = evaluate(series, report, self._power_meter)
        if reason is not None and self._recorder.problem is not None:
            reason = f"{reason} ({self._recorder.problem})"
        notes = [note for note in (reason, report.note) if note is not None]
        return power, "; ".join(notes) or None
