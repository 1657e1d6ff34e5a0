"""The measuring child: `python -m vitsearch_agent.measure.child.main JOBFILE`, in the private folder of the
job, to which it goes once it has imported what it needs: until then the present folder is one that no model can change.

Only this process imports a runtime. It writes its answer to a temporary file and renames it to the name in
the job: an answer file is always complete, and remains even if the runtime crashes at exit.

    {"report": {...}}   {"availability": {...}}   {"not_provided": "why"}   {"failure": {"kind", "message"}}
    {"restrictions": [...]}

The report is that of the job's phase (`phases`), of an outputs job, whose outputs have their own file
(`outputs`), or of one peak of the device (`peaks`). `not_provided` is the reason why a program does not
provide the phase.

The output of runtimes goes to the caller's log file and is never read as an answer.
"""

import json
import os
import sys
import traceback
from typing import Any, Callable, Dict, Sequence

from vitsearch_agent.base import processes
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure import memory_limit
from vitsearch_agent.measure.child import isolation, phases
from vitsearch_agent.measure.child.measured_model import make_measured_model
from vitsearch_agent.measure.child.timed_loop import Clocks
from vitsearch_agent.runtimes import create
from vitsearch_agent.runtimes.base import RuntimeContext
from vitsearch_agent.runtimes.tools.tool_runtime import NotProvided
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.results import OUTPUTS_MAX_BYTES

_FILE_LIMIT_BYTES = 16 << 20
_TOOL_FILE_LIMIT_BYTES = 4 << 30
"""Engines can be larger than their models."""
_OPEN_FILES_LIMIT = 256
_PROCESSES_LIMIT = 16384
"""Stops a model that forks without end. It counts all processes of the user, so it must exceed those of a desktop
session. Root has no such limit."""

Report = Dict[str, Any]


def main(argv: Sequence[str], reported: Callable[[Report], Report] = dict) -> int:
    """Run the job whose file `argv` names. `reported` gives what the answer says of the report of a phase."""
    with open(argv[0]) as stream:
        job = json.load(stream)
    os.chdir(os.path.dirname(os.path.abspath(argv[0])))
    sys.path[:] = [path for path in sys.path if path not in ("", os.sep)]  # the folders in which -m looks
    if not processes.die_with_parent(job["parent_pid"]):
        return 1
    _apply_limits(_file_limit_bytes(job))
    try:
        restrictions = isolation.enter(job)
        if job["kind"] == "restrictions":
            answer: Dict[str, Any] = {"restrictions": [restriction.to_json() for restriction in restrictions]}
        else:
            answer = _perform(job, reported)
    except NotProvided as not_provided:
        answer = {"not_provided": str(not_provided)}
    except MeasurementFailed as failure:
        answer = _failure(failure.kind, str(failure))
    except InvalidRequest as refusal:
        answer = _failure("runtime_unavailable", str(refusal))
    except MemoryError:
        answer = _failure("out_of_memory", "the process ran out of memory (MemoryError)")
    except Exception as error:  # noqa: BLE001 - the boundary of the process
        traceback.print_exc()
        answer = _failure("crash", f"{type(error).__name__}: {error}")
    try:
        # A NaN is written: the reader rejects it with a clear message, which a crash here could not give.
        write_json(job["answer"], answer)
    except OSError as error:
        if error.errno not in processes.DISK_ERRNOS:
            raise
        return processes.NO_ROOM
    return 0


def _perform(job: Dict[str, Any], reported: Callable[[Report], Report]) -> Dict[str, Any]:
    runtime = create(job["runtime"])
    runtime.context = RuntimeContext(job.get("tool"), job.get("cache"), job.get("environment"))
    if job["kind"] == "runtime_check":
        _limit_memory(job, reserves_addresses=True)  # importing a library maps more memory than it uses
        state = runtime.available()
        return {"availability": (runtime.with_limits(state) if state.available else state).to_json()}
    protocol = MeasureProtocol.from_json(job["protocol"])
    if job["kind"] == "copy":
        from vitsearch_agent.measure.child import peaks  # kept out of the processes that are timed

        _limit_memory(job, reserves_addresses=False)
        return {"report": peaks.copy(protocol).to_json()}
    measured = make_measured_model(runtime, job["model"], job["options"], protocol)
    _limit_memory(job, runtime.reserves_addresses(measured.options))
    if job["kind"] == "gemm":
        from vitsearch_agent.measure.child import peaks  # as above

        return {"report": peaks.gemm(measured, job["precision"]).to_json()}
    if job["kind"] == "outputs":
        from vitsearch_agent.measure.child import outputs  # kept out of the processes that are timed

        return {"report": outputs.run_images(measured, job["reduction"]).to_json()}
    return {"report": reported(phases.run_phase(job["phase"], measured, Clocks()))}


def _file_limit_bytes(job: Dict[str, Any]) -> int:
    if job.get("tool") is not None:
        return _TOOL_FILE_LIMIT_BYTES
    return OUTPUTS_MAX_BYTES if job["kind"] == "outputs" else _FILE_LIMIT_BYTES


def _limit_memory(job: Dict[str, Any], reserves_addresses: bool) -> None:
    """Apply the memory limit of the job to this process.

    It is called as late as possible, because the limit counts from what the loaded runtime uses. An address
    limit is not applied where a runtime reserves addresses without using them.
    """
    memory_mb, group = job.get("memory_mb"), job.get("group")
    if group is not None:
        memory_limit.join(group)
    elif memory_mb is not None and not reserves_addresses:
        memory_limit.limit_addresses(memory_mb)


def _apply_limits(file_bytes: int = _FILE_LIMIT_BYTES) -> None:
    """Limit the resources of this process and let the kernel kill it first when memory is short.

    RLIMIT_CPU is deliberately not set: with it, Linux counts the CPU time of the process in scheduler
    ticks of 1 to 10 ms, and `cpu_ms` would be worthless. The parent enforces a limit on wall time.
    """
    processes.forbid_new_privileges()
    try:
        with open("/proc/self/oom_score_adj", "w") as stream:
            stream.write("1000")
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_LIMIT),
        (resource.RLIMIT_NPROC, _PROCESSES_LIMIT),
    )
    for limit, value in limits:
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _failure(kind: str, message: str) -> Dict[str, Any]:
    return {"failure": {"kind": kind, "message": message[:2000]}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
