"""`vitsearch-agent measure`: files measured without an agent, one in full or several beside each other."""

import argparse
import json
import os
from typing import Any, Optional

from vitsearch_evaluators import power
from vitsearch_evaluators.base.system import THIS_MACHINE
from vitsearch_evaluators.cli import local_measure, report
from vitsearch_evaluators.config import RUNTIME_DEFAULT, PowerConfig, RuntimeConfig
from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.measure.launch import needs_of
from vitsearch_evaluators.wire.job_spec import MeasureProtocol
from vitsearch_evaluators.wire.measurement import Measurement
from vitsearch_evaluators.wire.protocol import PROTOCOLS

_POWER_S, _IDLE_S = 10.0, 3.0


def run(arguments: argparse.Namespace) -> int:
    """Return the exit code; raises what keeps a single file from being measured."""
    plan = PROTOCOLS[arguments.protocol]._replace(
        threads=arguments.threads,
        batch=arguments.batch,
        throughput_s=arguments.throughput,
        streams=arguments.streams,
        soak_s=arguments.soak,
    )
    plan = MeasureProtocol.from_json(plan.to_json(), "measure")  # which says what is out of range
    meter = PowerConfig("none")
    if arguments.meter is not None:
        plan, meter = plan._replace(power_s=_POWER_S, idle_s=_IDLE_S), PowerConfig(arguments.meter)
        power.check(meter, THIS_MACHINE)
    programs = _programs(arguments.runtime, arguments.program)
    asked = local_measure.MeasureRequest(
        arguments.runtime, local_measure.options(arguments.option), plan, meter, programs
    )
    local_measure.check(arguments.models, asked)
    if len(arguments.models) == 1:
        measurement = _measured(arguments.models[0], asked)
        print(_json(measurement.to_json()) if arguments.json else report.summary(measurement))
        return 0
    outcomes = [_outcome(path, asked) for path in arguments.models]
    if arguments.json:
        print(_json([outcome.to_json() for outcome in outcomes]))
    else:
        print(report.comparison(outcomes))
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _measured(path: str, asked: local_measure.MeasureRequest) -> Measurement:
    progress = local_measure.Progress(os.path.basename(path), asked.plan)
    try:
        return local_measure.measure_file(path, asked, progress)
    finally:
        progress.close()


def _outcome(path: str, asked: local_measure.MeasureRequest) -> report.FileResult:
    """One model that fails is no reason not to measure the others."""
    try:
        return report.FileResult(path, _measured(path, asked), None)
    except EvaluatorError as error:
        return report.FileResult(path, None, error)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True)


def _programs(runtime: str, program: Optional[str]) -> RuntimeConfig:
    """What the device's configuration would say."""
    if program is None:
        return RUNTIME_DEFAULT
    return RuntimeConfig(tool=program) if needs_of(runtime).tools else RuntimeConfig(python=program)
