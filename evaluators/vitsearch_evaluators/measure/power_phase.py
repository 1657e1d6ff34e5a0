"""The power phase of a job: which meter, its looks, and what they say about the child's windows."""

from typing import Optional, Tuple

from vitsearch_evaluators import power
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.config import PowerConfig
from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.measure.child.phase_reports import PowerReport
from vitsearch_evaluators.measure.energy import evaluate
from vitsearch_evaluators.measure.measure_job import PowerRecorder
from vitsearch_evaluators.power.base import PowerMeter
from vitsearch_evaluators.power.recorder import Recorder
from vitsearch_evaluators.wire.measurement import Power


class MeteredPhase(PowerRecorder):
    """`meter` is the name of the one that was found last, None when there was none.

    It is looked for anew before each phase: a battery may be charging now, a logger may run again.
    """

    def __init__(self, config: PowerConfig, system: System) -> None:
        self.meter: Optional[str] = None
        self._config = config
        self._system = system
        self._found: Optional[PowerMeter] = None
        self._recorder: Optional[Recorder] = None

    def unavailable_reason(self) -> Optional[str]:
        try:
            self._found, reason = power.find(self._config, self._system)
        except EvaluatorError as error:  # a package that was installed meanwhile
            self._found, reason = None, str(error)
        self.meter = None if self._found is None else self._found.name
        return reason

    def start(self) -> None:
        if self._found is not None:
            self._recorder = Recorder(self._found)
            self._recorder.start()

    def stop(self) -> None:
        if self._recorder is not None:
            self._recorder.stop()

    def power(self, report: PowerReport) -> Tuple[Optional[Power], Optional[str]]:
        if self._found is None or self._recorder is None:
            return None, "no power meter"
        series = self._recorder.series(report.idle_before[0], report.idle_after[1])
        found, reason = evaluate(series, report, self._found)
        if reason is not None and self._recorder.problem is not None:
            reason = f"{reason} ({self._recorder.problem})"
        return found, reason or report.note
