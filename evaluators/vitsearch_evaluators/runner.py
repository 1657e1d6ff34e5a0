"""The measuring child: `python -m vitsearch_evaluators.runner JOBFILE`, in its private folder.

It alone imports a runtime. It leaves its answer in the file that the job names, written apart and
renamed: an answer that is there is whole, and stays even if the runtime crashes on its way out.

    {"report": ProcessReport}   {"availability": {...}}   {"failure": {"kind", "message"}}

What runtimes print goes to the caller's log file and is never read as an answer.
"""

import json
import os
import sys
import time
import traceback
from typing import Any, Dict, Sequence

from vitsearch_evaluators import memory, procs
from vitsearch_evaluators.errors import InvalidRequest, MeasurementFailed
from vitsearch_evaluators.jobspec import MeasureProtocol
from vitsearch_evaluators.measure import Clocks, ProcessReport, sample, warm_up
from vitsearch_evaluators.runtimes import create
from vitsearch_evaluators.schedstat import scheduler_times

_FILE_LIMIT_BYTES = 16 << 20
_OPEN_FILES_LIMIT = 256


def main(argv: Sequence[str]) -> int:
    with open(argv[0]) as stream:
        job = json.load(stream)
    if not procs.die_with_parent(job["parent_pid"]):
        return 1
    _limit()
    try:
        answer = _perform(job)
    except MeasurementFailed as failure:
        answer = _failure(failure.kind, str(failure))
    except InvalidRequest as refusal:
        answer = _failure("runtime_unavailable", str(refusal))
    except MemoryError:
        answer = _failure("out_of_memory", "the process ran out of memory (MemoryError)")
    except Exception as error:  # noqa: BLE001 - the boundary of the process
        traceback.print_exc()
        answer = _failure("crash", f"{type(error).__name__}: {error}")
    _write(job["answer"], answer)
    return 0


def measure(
    runtime_name: str,
    path: str,
    options: Dict[str, Any],
    protocol: MeasureProtocol,
    clocks: Clocks,
) -> ProcessReport:
    """Load the model, time it by the protocol and look at this process' memory and scheduling."""
    runtime = create(runtime_name)
    effective = runtime.check_options(options)
    state = runtime.available()
    if not state.available:
        raise MeasurementFailed("runtime_unavailable", str(state.reason))
    reasons: Dict[str, str] = {}
    baseline = memory.current_rss_mb()
    not_reset = memory.reset_peak()
    if not_reset is not None:
        baseline = memory.peak_rss_mb()
    start = clocks.wall()
    session = runtime.load(path, effective, protocol.threads, protocol.batch)
    loaded = clocks.wall()
    session.run()
    first = clocks.wall()
    warm_up(session.run, protocol, clocks)
    scheduled_before = scheduler_times()
    samples = sample(session.run, protocol, clocks)
    scheduled = scheduler_times().since(scheduled_before)
    peak = memory.peak_rss_mb()
    # The session is not closed: the process ends now, and a crash there would lose the samples.
    over_baseline = None
    if peak.value_mb is None or baseline.value_mb is None:
        reasons["peak_memory_mb"] = str(peak.reason or baseline.reason)
    else:
        over_baseline = max(0.0, peak.value_mb - baseline.value_mb)
    if baseline.value_mb is None:
        reasons["runtime_baseline_mb"] = str(baseline.reason)
    if scheduled.reason is not None:
        reasons["contention"] = scheduled.reason
    return ProcessReport(
        wall_ms=tuple(samples.wall_ms),
        cpu_ms=tuple(samples.cpu_ms),
        load_ms=(loaded - start) * 1e3,
        first_inference_ms=(first - loaded) * 1e3,
        peak_memory_mb=over_baseline,
        runtime_baseline_mb=baseline.value_mb,
        scheduler_cpu_s=scheduled.cpu_s,
        scheduler_wait_s=scheduled.wait_s,
        runtime_version=str(state.version),
        options=effective,
        reasons=reasons,
    )


def _perform(job: Dict[str, Any]) -> Dict[str, Any]:
    if job["kind"] == "probe":
        return {"availability": create(job["runtime"]).available().to_json()}
    protocol = MeasureProtocol.from_json(job["protocol"])
    clocks = Clocks(time.perf_counter, time.process_time)
    report = measure(job["runtime"], job["model"], job["options"], protocol, clocks)
    return {"report": report.to_json()}


def _limit() -> None:
    """Make this process the first to go when memory is short, and bound what it may use.

    There is no RLIMIT_CPU on purpose: with it, Linux counts the process' CPU time in scheduler
    ticks of 1 to 10 ms, and `cpu_ms` would be worthless. The parent ends us by wall time.
    """
    procs.forbid_new_privileges()
    try:
        with open("/proc/self/oom_score_adj", "w") as stream:
            stream.write("1000")
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return
    wanted = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _FILE_LIMIT_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_LIMIT),
    )
    for limit, value in wanted:
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _failure(kind: str, message: str) -> Dict[str, Any]:
    return {"failure": {"kind": kind, "message": message[:2000]}}


def _write(path: str, answer: Dict[str, Any]) -> None:
    temporary = path + ".part"
    with open(temporary, "w") as stream:
        # NaN is refused by the reader, which can say so; a crash here could not.
        json.dump(answer, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
