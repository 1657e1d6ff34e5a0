"""From a job to a Measurement: one fresh child after another, then the samples together."""

import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from vitsearch_evaluators import measure
from vitsearch_evaluators.child import StopSignal, read_answer, run_child
from vitsearch_evaluators.errors import InvalidRequest, MeasurementFailed
from vitsearch_evaluators.jobspec import JobSpec
from vitsearch_evaluators.procs import ProcessId
from vitsearch_evaluators.records import Measurement, RuntimeInfo

_PROBE_S = 120.0


class Conditions(NamedTuple):
    """What a measurement says about where and how it was taken, known before it starts."""

    job_id: str
    device_id: str
    environment_id: str
    attempts: int
    queue_s: float


def probe_runtime(name: str, folder: str, stop: StopSignal) -> RuntimeInfo:
    """Ask a child whether a runtime can be imported; a crash is an answer too."""
    job = {"kind": "probe", "runtime": name, "answer": f"probe-{name}.json"}
    answer_path = os.path.join(folder, job["answer"])
    if os.path.exists(answer_path):
        os.remove(answer_path)
    try:
        state = run_child(job, folder, _PROBE_S, stop).get("availability")
    except MeasurementFailed as failure:
        return RuntimeInfo(name, False, str(failure), None, ())
    return RuntimeInfo.from_json(dict(state or {}, name=name))


def execute(
    spec: JobSpec,
    model: str,
    folder: str,
    conditions: Conditions,
    stop: StopSignal,
    on_start: Optional[Callable[[ProcessId], None]] = None,
) -> Measurement:
    """Measure the model file `model`, which lies in the private `folder`.

    Answers that an earlier attempt left in the folder are used when they were taken in the same
    environment. Raises MeasurementFailed, or child.Interrupted when `stop` was set.
    """
    start = time.monotonic()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    reports: List[measure.ProcessReport] = []
    for index in range(spec.protocol.processes):
        answer = _answer(spec, model, folder, conditions, index, stop, on_start)
        try:
            reports.append(measure.ProcessReport.from_json(answer.get("report")))
        except InvalidRequest as error:
            raise MeasurementFailed("protocol", f"the child's answer: {error}") from error
    try:
        combined = measure.combine(reports, spec.protocol.batch)
    except ValueError as error:
        raise MeasurementFailed("protocol", f"the child's samples: {error}") from error
    return Measurement(
        job_id=conditions.job_id,
        artifact=spec.artifact,
        device_id=conditions.device_id,
        environment_id=conditions.environment_id,
        protocol=spec.protocol,
        runtime=spec.runtime,
        attempts=conditions.attempts,
        queue_s=conditions.queue_s,
        seconds=time.monotonic() - start,
        emulated=False,
        started_at=started_at,
        **combined,
    )


def _answer(
    spec: JobSpec,
    model: str,
    folder: str,
    conditions: Conditions,
    index: int,
    stop: StopSignal,
    on_start: Optional[Callable[[ProcessId], None]],
) -> Dict[str, Any]:
    # The environment is in the name: what was measured before an update is not found after it.
    name = f"answer-{conditions.environment_id[:16]}-{index}.json"
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return read_answer(path)
    job = {
        "kind": spec.kind,
        "runtime": spec.runtime,
        "options": dict(spec.options),
        "protocol": spec.protocol.to_json(),
        "model": os.path.basename(model),
        "answer": name,
    }
    return run_child(job, folder, spec.protocol.max_s, stop, on_start)
