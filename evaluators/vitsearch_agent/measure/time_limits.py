"""How long a job may hold the device: the sum of the time limits of all its processes."""

from typing import List, NamedTuple, Sequence

from vitsearch_agent import runtimes
from vitsearch_agent.base.plugins import IMPORTING
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.measure.measure_job import wall_limit_s
from vitsearch_agent.wire.job_spec import JobSpec
from vitsearch_agent.wire.measure_protocol import MeasureProtocol

_MEASURE_KEYS = ("processes", "budget_s", "timeout_s", "soak_s", "throughput_s", "power_s", "idle_s", "cooldown_max_s")


class TimeLimit(NamedTuple):
    """The longest time that a job may take, in seconds, and the keys of its protocol that decide it."""

    seconds: float
    keys: Sequence[str]


def refuse_too_long(spec: JobSpec, job_max_s: float) -> None:
    """Raise InvalidRequest for a job that asks for more than `job_max_s` seconds; name the keys to lower."""
    limit = time_limit(spec)
    if limit.seconds <= job_max_s:
        return
    values = spec.protocol._asdict()
    lower = ", ".join(f"{key} ({values[key]:g})" for key in limit.keys if values[key])
    raise InvalidRequest(
        f"spec.protocol: the time limits of all processes of this job add up to {limit.seconds:g} s; this device "
        f"allows {job_max_s:g} s (limits.job_max_s in its config.json): lower {lower}"
    )


def time_limit(spec: JobSpec) -> TimeLimit:
    """Return the longest time that a job may take. Repeats of throttled processes are not counted."""
    protocol = spec.protocol
    if spec.kind == "outputs":
        return TimeLimit(protocol.timeout_s, ("timeout_s",))
    if spec.kind == "peaks":
        with IMPORTING:  # imported only if needed: most agents only measure
            from vitsearch_agent.measure.child.peaks import PRECISIONS
        return TimeLimit((len(PRECISIONS) * len({1, protocol.threads}) + 1) * protocol.timeout_s, ("timeout_s",))
    others = _phases(spec)
    cooldowns = sum(phase != "prepare" for phase in others) * protocol.cooldown_max_s
    seconds = _latency_s(protocol) + sum(wall_limit_s(phase, protocol) for phase in others) + cooldowns
    return TimeLimit(seconds, _MEASURE_KEYS)


def _latency_s(protocol: MeasureProtocol) -> float:
    """Return the longest time of all latency processes. After the first ones, none starts when the budget is over."""
    each_s = wall_limit_s("latency", protocol) + protocol.cooldown_max_s
    first_s = protocol.processes * each_s
    return max(first_s, min(protocol.max_processes * each_s, protocol.budget_s + each_s))


def _phases(spec: JobSpec) -> List[str]:
    """Return the phase of each further process of a measure job."""
    protocol = spec.protocol
    optional = (
        ("prepare", runtimes.create(spec.runtime).prepares),
        ("sustained", protocol.soak_s > 0),
        ("throughput", protocol.throughput_s > 0),
        ("power", protocol.power_s > 0),
    )
    return [phase for phase, is_requested in optional if is_requested]
