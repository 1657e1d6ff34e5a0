"""Every error of this package.

    AgentError
    |-- DeviceUnreachable   transient  no answer: network, reboot, agent restart
    |-- DeviceBusy          transient  the agent cannot serve the request now
    |   `-- TooManyRequests transient  this client sent too many requests or jobs
    |-- ArtifactMissing     transient  the agent does not hold a file that the job names
    |-- StorageFull         transient  the agent's disk is full
    |-- EnvironmentChanged  transient  the device is not in the environment that the job is for
    |-- Unauthorized                   the token is missing or wrong
    |-- UntrustedDevice                the certificate is not the pinned one
    |-- ProtocolSkew                   client and agent share no protocol version
    |-- DeviceChanged                  another device answers at this address
    |-- InvalidRequest                 the request or the input is invalid
    |-- NotFound                       no such job, blob or endpoint
    |-- JobConflict                    the job id belongs to another specification
    |-- TransferFailed      (no_space) an upload does not fit or arrived damaged
    |-- JobCancelled                   the job was cancelled
    |-- DamagedBundle                  the zip or the checksums of a bundle are not those that were shipped
    `-- MeasurementFailed              the model failed on the device; `kind` is the reason

A transient error may pass, so the client repeats the request and the trial does not fail; the others are
final. Each error crosses HTTP as `{"code", "message", "retryable", "details"}`, and the client raises the same
class.
"""

from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type

FAILURE_KINDS = (
    "crash",
    "timeout",
    "out_of_memory",
    "incompatible_artifact",
    "runtime_unavailable",
    "protocol",
    "spawn",
    "interrupted",
)


class AgentError(Exception):
    """Base class: `message` is for people; `code`, `transient` and `details` (JSON) are for programs."""

    http_status = 500

    def __init__(
        self,
        code: str,
        message: str,
        transient: bool = False,
        details: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.transient = transient
        self.details: Dict[str, Any] = dict(details or {})

    def to_json(self) -> Dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.transient,
            "details": self.details,
        }

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[Any, ...]]:
        # Pickle passes positional arguments to the constructor, and those differ between the subclasses.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


class DeviceUnreachable(AgentError):
    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("unreachable", message, True, details)


class DeviceBusy(AgentError):
    http_status = 503

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("busy", message, True, details)


class TooManyRequests(DeviceBusy):
    http_status = 429

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(message, details)
        self.code = "too_many_requests"


class ArtifactMissing(AgentError):
    http_status = 424

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("artifact_missing", message, True, details)


class StorageFull(AgentError):
    http_status = 507

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("storage_full", message, True, details)


class EnvironmentChanged(AgentError):
    """The device is in another environment; `details` has the environment ids `wanted` and `actual`."""

    http_status = 409

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("environment_changed", message, True, details)


class Unauthorized(AgentError):
    http_status = 401

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("unauthorized", message, False, details)


class UntrustedDevice(AgentError):
    """The certificate differs from the pinned one; the client raises it before it sends anything."""

    http_status = 400

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("untrusted", message, False, details)


class ProtocolSkew(AgentError):
    http_status = 400

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("protocol_skew", message, False, details)


class DeviceChanged(AgentError):
    http_status = 409

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("device_changed", message, False, details)


class InvalidRequest(AgentError):
    http_status = 400

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("invalid_request", message, False, details)


class NotFound(AgentError):
    http_status = 404

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("not_found", message, False, details)


class JobConflict(AgentError):
    http_status = 409

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("job_conflict", message, False, details)


class TransferFailed(AgentError):
    """A file was refused; `details["reason"]` is `too_large`, `no_space`, `digest_mismatch` or `offset_mismatch`."""

    _STATUS = {"too_large": 413, "no_space": 507, "digest_mismatch": 422, "offset_mismatch": 409}

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("transfer_failed", message, False, details)
        self.transient = self.reason == "no_space"  # room comes free when jobs end
        self.http_status = self._STATUS.get(self.reason, 422)

    @property
    def reason(self) -> str:
        return str(self.details.get("reason", "unknown"))


class JobCancelled(AgentError):
    http_status = 409

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("cancelled", message, False, details)


class DamagedBundle(AgentError):
    http_status = 422

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__("damaged_bundle", message, False, details)


class MeasurementFailed(AgentError):
    """The artifact failed on the device or cannot run there; `kind` is one of FAILURE_KINDS."""

    http_status = 422

    def __init__(self, kind: str, message: str, details: Optional[Mapping[str, Any]] = None) -> None:
        if kind not in FAILURE_KINDS:
            raise ValueError(f"kind: expected one of {', '.join(FAILURE_KINDS)}, got {kind!r}")
        super().__init__("measurement_failed", message, False, dict(details or {}, kind=kind))
        self.kind = kind


_WITH_MESSAGE: Tuple[Type[Any], ...] = (
    DeviceUnreachable,
    DeviceBusy,
    TooManyRequests,
    ArtifactMissing,
    StorageFull,
    EnvironmentChanged,
    Unauthorized,
    UntrustedDevice,
    ProtocolSkew,
    DeviceChanged,
    InvalidRequest,
    NotFound,
    JobConflict,
    TransferFailed,
    JobCancelled,
    DamagedBundle,
)
_BY_CODE: Dict[str, Type[Any]] = {kind("").code: kind for kind in _WITH_MESSAGE}


def error_from_json(value: Any) -> AgentError:
    """Return (not raise) the error that `AgentError.to_json` described."""
    if not isinstance(value, dict) or not isinstance(value.get("code"), str):
        return AgentError("unknown", f"the agent sent an error without a code: {value!r:.200}")
    message = str(value.get("message", ""))
    details = value.get("details")
    details = details if isinstance(details, dict) else {}
    code = value["code"]
    if code == "measurement_failed" and details.get("kind") in FAILURE_KINDS:
        return MeasurementFailed(details["kind"], message, details)
    error_class = _BY_CODE.get(code)
    if error_class is not None:
        error: AgentError = error_class(message, details)
        return error
    return AgentError(code, message, value.get("retryable") is True, details)


def _rebuild(cls: Type[AgentError], message: str, attributes: Dict[str, Any]) -> AgentError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error
