"""The endpoints of the protocol as methods: each sends one request and reads the answer strictly.

They raise as `Transport.request` does; the caller decides about repeats.
"""

from typing import Any, Dict, List, Mapping, Optional

from vitsearch_agent.client.transport import Transport
from vitsearch_agent.errors import ProtocolSkew
from vitsearch_agent.wire.protocol import (
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    DeviceInfo,
    Event,
    JobStatus,
)

_RUNTIME_CHECK_S = 60.0
"""Extra time for the first answer of an agent that has just started: it checks its runtimes first."""


class Endpoints:
    """The device behind a transport. Thread-safe, as the transport is."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def device(self) -> DeviceInfo:
        """Ask for the description of the device. Raises ProtocolSkew, which names both versions."""
        body = self._transport.request("GET", "/v1/device", extra_timeout_s=_RUNTIME_CHECK_S).body
        low, high = _get(body, "api_min"), _get(body, "api_max")
        if not (
            isinstance(low, int) and isinstance(high, int) and low <= PROTOCOL_VERSION and high >= PROTOCOL_VERSION_MIN
        ):
            raise ProtocolSkew(
                f"this client supports protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, the "
                f"agent (version {_get(body, 'agent_version')}) {low} to {high}: update the older one",
                {"client": [PROTOCOL_VERSION_MIN, PROTOCOL_VERSION], "agent": [low, high]},
            )
        return DeviceInfo.from_json(body)

    def conditions(self) -> Dict[str, Any]:
        """Ask for the current temperature: {"temperature_c", "zone", "reason"}."""
        return dict(self._transport.request("GET", "/v1/conditions").body)

    def put_job(self, identifier: str, request: Mapping[str, Any], asker: str) -> JobStatus:
        """Submit a job for a client, named by hex digits of its own; one that exists is returned as it is."""
        path = f"{job_path(identifier)}?asker={asker}"
        return JobStatus.from_json(self._transport.request("PUT", path, request).body)

    def job(self, identifier: str, wait_s: float = 0.0) -> JobStatus:
        """Return the status as soon as the job is final, or after `wait_s`."""
        path = f"{job_path(identifier)}?wait={wait_s:g}"
        return JobStatus.from_json(self._transport.request("GET", path, extra_timeout_s=wait_s).body)

    def cancel(self, identifier: str, asker: Optional[str] = None) -> JobStatus:
        """Cancel a job, for one client or for all; a final one is not changed. NotFound if it is unknown."""
        query = "" if asker is None else f"?asker={asker}"
        return JobStatus.from_json(self._transport.request("DELETE", job_path(identifier) + query).body)

    def events(self, identifier: str, after: int = 0, wait_s: float = 0.0) -> List[Event]:
        """Return the events of a job after number `after`, waiting up to `wait_s` for one."""
        path = f"{job_path(identifier)}/events?after={after}&wait={wait_s:g}"
        body = self._transport.request("GET", path, extra_timeout_s=wait_s).body
        return [Event.from_json(event) for event in body["events"]]

    def jobs(self) -> List[JobStatus]:
        """Return the jobs of all owners: the running one, then the queued ones in the order of service."""
        body = self._transport.request("GET", "/v1/jobs").body
        return [JobStatus.from_json(job) for job in body["jobs"]]


def job_path(identifier: str) -> str:
    """Return the URL path of a job."""
    return f"/v1/jobs/{identifier}"


def _get(body: Any, key: str) -> Any:
    return body.get(key) if isinstance(body, dict) else None
