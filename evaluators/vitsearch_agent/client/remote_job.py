"""One job from submission to result, in spite of lost connections, restarts and evicted files."""

import contextlib
import threading
import uuid
from typing import Any, Callable, List, Mapping, NamedTuple, Optional

from vitsearch_agent.client.endpoints import Endpoints
from vitsearch_agent.client.retry import OnTrouble, RetryPolicy
from vitsearch_agent.client.transfer import Transfer
from vitsearch_agent.errors import (
    AgentError,
    ArtifactMissing,
    EnvironmentChanged,
    JobCancelled,
    MeasurementFailed,
    NotFound,
    error_from_json,
)
from vitsearch_agent.wire.protocol import (
    PROTOCOL_VERSION,
    DeviceInfo,
    Event,
    JobSpec,
    JobStatus,
    Owner,
    Result,
    job_id,
)

_POLL_S = 20.0
_POLL_CANCELLABLE_S = 2.0
_FAILURES_MAX = 5
"""How often one request lets a job run again that has failed with a transient error, such as a full disk."""


class RequestOptions(NamedTuple):
    """Options of one request; none of them is part of the job's id.

    With `environment_id` the job runs only in that environment. `trial` is shown in the queue with the owner.
    `cancel` ends the job when it is set. `on_event` is called with each event of the job. `on_trouble` is called with
    each error that the client waits for to pass, and with None when the device answers again.
    """

    environment_id: Optional[str] = None
    trial: Optional[int] = None
    cancel: Optional[threading.Event] = None
    on_event: Optional[Callable[[Event], None]] = None
    on_trouble: Optional[OnTrouble] = None


class RemoteJob:
    """Runs jobs on a device for `owner`, one after another."""

    def __init__(self, endpoints: Endpoints, files: Transfer, owner: Owner) -> None:
        self._endpoints = endpoints
        self._files = files
        self._owner = owner
        self._asker = uuid.uuid4().hex  # several clients may have a study of the same name

    def result(self, spec: JobSpec, request: RequestOptions, info: DeviceInfo, retry_policy: RetryPolicy) -> Result:
        """Submit a job to the device described by `info` and return its result; raises as `DeviceClient.measure`."""
        identifier = job_id(spec, info.device_id)
        body = {
            "api": min(PROTOCOL_VERSION, info.api_max),
            "device_id": info.device_id,
            "owner": self._owner._replace(trial=request.trial).to_json(),
            "spec": spec.to_json(),
            "environment_id": request.environment_id,
        }
        watch = None if request.on_event is None else _Watch(request.on_event)
        failures = 0
        while True:
            try:
                status = self._follow(identifier, body, retry_policy, watch)
                failures += status.state == "failed"
                result = _checked(status, spec, info)
                if request.environment_id not in (None, result.environment_id):
                    raise _other_environment(str(request.environment_id), result)
                return result
            except (ArtifactMissing, NotFound) as error:
                # The model is new to the agent, or the agent lost its state.
                if isinstance(error, ArtifactMissing):
                    self._send_missing(spec, error, retry_policy)
                retry_policy.wait(error, first_at_once=True)
            except EnvironmentChanged as error:
                if request.environment_id is not None or failures >= _FAILURES_MAX:
                    raise
                # Another client queued this job for an earlier environment, or a setting changed meanwhile.
                retry_policy.wait(error)
            except JobCancelled:
                if retry_policy.cancel is not None and retry_policy.cancel.is_set():
                    self._cancel_quietly(identifier)
                raise
            except AgentError as error:
                if not error.transient or failures >= _FAILURES_MAX:
                    raise
                retry_policy.wait(error)

    def _send_missing(self, spec: JobSpec, error: ArtifactMissing, retry_policy: RetryPolicy) -> None:
        missing = error.details.get("missing", ())
        for blob in spec.manifest:
            if blob.sha256 in missing:
                self._files.upload_again(blob.sha256, error, retry_policy.renewed())

    def _follow(
        self, identifier: str, body: Mapping[str, Any], retry_policy: RetryPolicy, watch: Optional["_Watch"]
    ) -> JobStatus:
        """Submit the job unless it exists, and wait until it is final."""
        retry_policy.check()
        status = self._endpoints.put_job(identifier, body, self._asker)
        wait_s = _POLL_S if retry_policy.cancel is None else _POLL_CANCELLABLE_S
        while not status.final:
            retry_policy.answered()
            retry_policy.check()
            if watch is not None:
                watch.report(self._endpoints.events(identifier, watch.seen, wait_s))
            status = self._endpoints.job(identifier, wait_s if watch is None else 0.0)
        if watch is not None:
            watch.report(self._endpoints.events(identifier, watch.seen))
        return status

    def _cancel_quietly(self, identifier: str) -> None:
        # If the device cannot be reached, it completes the job and keeps the result for the next request.
        with contextlib.suppress(AgentError):
            self._endpoints.cancel(identifier, self._asker)


class _Watch:
    """Calls the caller's function once for each event, in spite of lost connections and restarts."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.seen = 0

    def report(self, events: List[Event]) -> None:
        for event in events:
            self.seen = max(self.seen, event.n)
            self._on_event(event)


def _checked(status: JobStatus, spec: JobSpec, info: DeviceInfo) -> Result:
    """Return the result of a final job; raise its error if it has none."""
    if status.state == "cancelled":
        raise JobCancelled(f"job {status.id} was cancelled on the device")
    if status.state == "failed":
        raise error_from_json(dict(status.error or {}))
    result = status.result
    expected = (spec.kind, job_id(spec, info.device_id), info.device_id)
    is_expected = result is not None and (status.kind, result.job_id, result.device_id) == expected
    fields = {"artifact": spec.artifact, "reduction": spec.reduction}
    if result is None or not is_expected or any(getattr(result, name, fields[name]) != fields[name] for name in fields):
        raise MeasurementFailed("protocol", f"the result of job {status.id} belongs to another job")
    return result


def _other_environment(wanted: str, result: Result) -> EnvironmentChanged:
    actual = result.environment_id
    return EnvironmentChanged(
        f"job {result.job_id} was measured in the environment {actual}, not in {wanted}",
        {"wanted": wanted, "actual": actual},
    )
