"""What the agent checks in a child at its start: which runtimes are available, because only children import them, and
which restrictions hold for children."""

from typing import Tuple

from vitsearch_agent.base.interruptions import FROM_OUTSIDE
from vitsearch_agent.base.system import THIS_MACHINE, System
from vitsearch_agent.config import RUNTIME_DEFAULT, RuntimeConfig
from vitsearch_agent.errors import AgentError, MeasurementFailed, StorageFull
from vitsearch_agent.measure.child_process import ChildDied
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.launch import Launch, candidates
from vitsearch_agent.wire.device_info import RuntimeInfo
from vitsearch_agent.wire.restriction import Restriction

_CHECK_TIMEOUT_S = 120.0
_ATTEMPTS = 3


def check_runtime(
    name: str, job_folder: JobFolder, config: RuntimeConfig = RUNTIME_DEFAULT, system: System = THIS_MACHINE
) -> RuntimeInfo:
    """Check in a child whether a runtime is available, under each candidate interpreter until one has it.

    That interpreter becomes the runtime's program. The launch of `job_folder` is not used.
    """
    reasons = []
    try:
        for candidate in candidates(name, config, system):
            info = RuntimeInfo(name, False, candidate.reason, None, ())
            if candidate.reason is None:
                info = _check_in_child(name, job_folder._replace(launch=candidate.launch.allowing(config)))
            if info.available:
                return info._replace(program=candidate.launch.program)
            reasons.append(str(info.reason))
    except StorageFull:
        raise
    except (AgentError, ImportError, AttributeError) as error:  # unknown, or broken in another package
        reasons.append(str(error))
    return RuntimeInfo(name, False, "; ".join(reasons), None, ())


def check_restrictions(job_folder: JobFolder) -> Tuple[Restriction, ...]:
    """Return which restrictions hold for the children of `job_folder`, as one of them found. Raises Interrupted."""
    job = {"kind": "restrictions", "answer": "restrictions.json"}
    try:
        answer = job_folder.run("restrictions", job, _CHECK_TIMEOUT_S)
        return tuple(Restriction.from_json(restriction) for restriction in answer.get("restrictions", ()))
    except (AgentError, OSError) as error:
        return (Restriction("files", False, f"could not be checked: {error}"),)


def _check_in_child(name: str, job_folder: JobFolder) -> RuntimeInfo:
    """Run the check in a child; a crash of the child makes the runtime unavailable."""
    job = {"kind": "runtime_check", "runtime": name, "answer": f"runtime-{name}.json"}
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            state = job_folder.run("runtime_check", job, _CHECK_TIMEOUT_S).get("availability")
        except ChildDied as death:
            if death.signal_name in FROM_OUTSIDE and attempt < _ATTEMPTS:
                continue
            return RuntimeInfo(name, False, str(death), None, ())
        except MeasurementFailed as failure:
            return RuntimeInfo(name, False, _description(failure, job_folder.launch), None, ())
        return RuntimeInfo.from_json(dict(state or {}, name=name, program=None))
    raise AssertionError("unreachable")


def _description(failure: MeasurementFailed, launch: Launch) -> str:
    """Describe a failure; when Python itself fails to start, its last line of output has the reason."""
    tail = str(failure.details.get("output_tail", "")).strip().splitlines()
    if failure.kind != "crash" or not tail:
        return str(failure)
    return f"{launch.python}: {failure}: {tail[-1]}"
