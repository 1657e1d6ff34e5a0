"""Talk to one device: upload a model, have it measured, get the result, whatever happens between.

Every request may be repeated without harm, so the answer to a lost connection, a rebooted board or
a restarted agent is always the same: wait a little and ask again, until the device was silent for
`deadline_s`. What the device measured during a cut is fetched afterwards, not measured again.
"""

import contextlib
import threading
from types import TracebackType
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Type, Union

from vitsearch_evaluators import artifacts
from vitsearch_evaluators.errors import (
    ArtifactMissing,
    DeviceChanged,
    EnvironmentChanged,
    EvaluatorError,
    JobCancelled,
    MeasurementFailed,
    NotFound,
    ProtocolSkew,
    error_from_json,
)
from vitsearch_evaluators.patience import Backoff, Patience
from vitsearch_evaluators.protocol import (
    ACCURACY,
    ARTIFACT_NAMES,
    ARTIFACTS,
    PROBE,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    SCREEN,
    AccuracyResult,
    BlobRef,
    DeviceInfo,
    Event,
    JobSpec,
    JobStatus,
    Measurement,
    MeasureProtocol,
    Owner,
    ProbeResult,
    Result,
    job_id,
)
from vitsearch_evaluators.transfer import Transfer
from vitsearch_evaluators.transport import Address, Transport

_POLL_S = 20.0
_POLL_CANCELLABLE_S = 2.0


class Wish(NamedTuple):
    """How a caller wants its job done; nothing of it is part of the job's id.

    With `environment_id` the job is done in that environment or not at all; `trial` stands in the queue
    beside the owner; `cancel` ends the job when it is set; `on_event` is told what happens to it meanwhile.
    """

    environment_id: Optional[str] = None
    trial: Optional[int] = None
    cancel: Optional[threading.Event] = None
    on_event: Optional[Callable[[Event], None]] = None


class DeviceClient:
    """A device at `address` (a URL, or a function that returns it), used for one study.

    `fingerprint` pins the certificate of an https address (see `tls`).

    One thread measures; `cancel`, `jobs` and `device` may be called from others meanwhile.
    """

    def __init__(
        self,
        address: Address,
        token: Optional[str] = None,
        owner: Union[str, Owner] = "anonymous",
        timeout_s: float = 30.0,
        deadline_s: float = 900.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - immutable
        fingerprint: Optional[str] = None,
    ) -> None:
        self._transport = Transport(address, token, timeout_s, fingerprint)
        self._owner = owner if isinstance(owner, Owner) else Owner(owner)
        self._deadline_s = deadline_s
        self._backoff = backoff
        self._info: Optional[DeviceInfo] = None
        self._files = Transfer(self._transport)

    def device(self) -> DeviceInfo:
        """Ask what the device is; one attempt. Raises ProtocolSkew naming both versions."""
        body = self._transport.request("GET", "/v1/device", extra_timeout_s=60.0).body
        low, high = _get(body, "api_min"), _get(body, "api_max")
        if not (
            isinstance(low, int) and isinstance(high, int) and low <= PROTOCOL_VERSION and high >= PROTOCOL_VERSION_MIN
        ):
            raise ProtocolSkew(
                f"this client speaks protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, the "
                f"agent (version {_get(body, 'agent_version')}) {low} to {high}: update the older",
                {"client": [PROTOCOL_VERSION_MIN, PROTOCOL_VERSION], "agent": [low, high]},
            )
        self._info = DeviceInfo.from_json(body)
        return self._info

    def conditions(self) -> Dict[str, Any]:
        """Ask how warm the device is now: {"temperature_c", "zone", "reason"}."""
        return dict(self._transport.request("GET", "/v1/conditions").body)

    def upload(self, path: str, cancel: Optional[threading.Event] = None) -> str:
        """Bring a file to the device and return its digest; goes on where an upload broke off.

        Raises TransferFailed when it does not fit or arrives damaged twice.
        """
        return self._files.upload(path, self._patience(cancel))

    def measure(
        self,
        path_or_digest: str,
        runtime: str = "onnxruntime",
        options: Optional[Mapping[str, Any]] = None,
        protocol: MeasureProtocol = SCREEN,
        repeat: int = 0,
        wish: Wish = Wish(),  # noqa: B008 - immutable
    ) -> Measurement:
        """Measure a model file, or an uploaded one by its digest, and wait for the result.

        Raises MeasurementFailed when the model was tried and failed, JobCancelled, EnvironmentChanged
        (ask `device` again), and DeviceUnreachable or DeviceBusy after `deadline_s` without an answer
        that helps.
        """
        patience = self._patience(wish.cancel)
        info = self._info or patience.ask(self.device)
        blobs = patience.ask(lambda: self._files.manifest(path_or_digest))
        info = patience.ask(lambda: self._refuse_unfit(blobs, runtime, info))
        spec = JobSpec("measure", blobs, runtime, dict(options or {}), protocol, repeat)
        result = self._result(spec, wish, info, patience)
        assert isinstance(result, Measurement)
        return result

    def accuracy(
        self,
        path_or_digest: str,
        images: str,
        labels: str,
        runtime: str = "onnxruntime",
        options: Optional[Mapping[str, Any]] = None,
        protocol: MeasureProtocol = ACCURACY,
        repeat: int = 0,
        wish: Wish = Wish(),  # noqa: B008 - immutable
    ) -> AccuracyResult:
        """Classify a validation subset on the device and wait for what comes of it.

        `images` and `labels` are .npy files as `npy.check_subset` wants them, or the digests of uploaded
        ones; they are sent once, whatever number of models is judged by them. Otherwise as `measure`.
        """
        patience = self._patience(wish.cancel)
        info = self._info or patience.ask(self.device)
        model = patience.ask(lambda: self._files.manifest(path_or_digest))
        subset = patience.ask(lambda: self._files.subset(images, labels))
        info = patience.ask(lambda: self._refuse_unfit(model, runtime, info))
        spec = JobSpec("accuracy", model + subset, runtime, dict(options or {}), protocol, repeat)
        result = self._result(spec, wish, info, patience)
        assert isinstance(result, AccuracyResult)
        return result

    def probe(
        self,
        runtime: str = "onnxruntime",
        threads: Optional[int] = None,
        options: Optional[Mapping[str, Any]] = None,
        cancel: Optional[threading.Event] = None,
    ) -> ProbeResult:
        """Return the peaks of the device, measured once in each of its environments.

        They are those of one thread and of `threads` (None: as many as the agent has processors).
        """
        patience = self._patience(cancel)
        info = patience.ask(self.device)
        if threads is None:
            threads = len(info.fingerprint.get("affinity") or ()) or info.fingerprint.get("cores") or 1
        spec = JobSpec("probe", (), runtime, dict(options or {}), PROBE._replace(threads=threads))
        result = self._result(spec, Wish(info.environment_id), info, patience)
        assert isinstance(result, ProbeResult)
        return result

    def logits(self, result: AccuracyResult, path: str) -> None:
        """Write the logits of an accuracy job to a file (see AccuracyResult), going on after any cut.

        NotFound when the device had no room to keep them; TransferFailed when they are damaged.
        """
        size = result.n * result.classes * 4
        self._files.fetch(f"{_job(result.job_id)}/logits", size, result.logits_sha256, path, self._patience(None))

    def _result(self, spec: JobSpec, wish: Wish, info: DeviceInfo, patience: Patience) -> Result:
        """Submit a job and return its result; raises as `measure` says."""
        environment_id = wish.environment_id
        identifier = job_id(spec, info.device_id)
        request = {
            "api": min(PROTOCOL_VERSION, info.api_max),
            "device_id": info.device_id,
            "owner": self._owner._replace(trial=wish.trial).to_json(),
            "spec": spec.to_json(),
            "environment_id": environment_id,
        }
        watch = None if wish.on_event is None else _Watch(wish.on_event)
        while True:
            try:
                status = self._follow(identifier, request, patience, watch)
                result = _checked(status, spec, info)
                if environment_id not in (None, result.environment_id):
                    raise _elsewhere(str(environment_id), result)
                return result
            except (ArtifactMissing, NotFound) as error:
                # A new model, or an agent that lost its state.
                if isinstance(error, ArtifactMissing):
                    missing = error.details.get("missing", ())
                    for blob in spec.manifest:
                        if blob.sha256 in missing:
                            self._files.upload_again(blob.sha256, error, self._patience(patience.cancel))
                patience.wait(error, first_at_once=True)
            except DeviceChanged:
                self._info = None
                raise
            except EnvironmentChanged as error:
                self._info = None
                if environment_id is not None:
                    raise
                patience.wait(error)  # another client wanted this job in an environment that is no more
            except JobCancelled:
                if patience.cancel is not None and patience.cancel.is_set():
                    self._cancel_quietly(identifier)
                raise
            except EvaluatorError as error:
                if not error.transient:
                    raise
                patience.wait(error)

    def cancel(self, identifier: str) -> JobStatus:
        """Cancel a job; one that is final stays as it is. NotFound when unknown."""
        return JobStatus.from_json(self._transport.request("DELETE", _job(identifier)).body)

    def events(self, identifier: str, after: int = 0, wait_s: float = 0.0) -> List[Event]:
        """Return what happened to a job after event number `after`, waiting for something up to `wait_s`."""
        path = f"{_job(identifier)}/events?after={after}&wait={wait_s:g}"
        body = self._transport.request("GET", path, extra_timeout_s=wait_s).body
        return [Event.from_json(event) for event in body["events"]]

    def jobs(self) -> List[JobStatus]:
        """Return the jobs of all owners: the running one, then the queued as they will be served."""
        body = self._transport.request("GET", "/v1/jobs").body
        return [JobStatus.from_json(job) for job in body["jobs"]]

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        self._transport.close()

    def __enter__(self) -> "DeviceClient":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _follow(
        self, identifier: str, request: Mapping[str, Any], patience: Patience, watch: Optional["_Watch"]
    ) -> JobStatus:
        """Submit the job, which may be there already, and wait until it is final."""
        patience.check()
        status = JobStatus.from_json(self._transport.request("PUT", _job(identifier), request).body)
        wait_s = _POLL_S if patience.cancel is None else _POLL_CANCELLABLE_S
        while not status.final:
            patience.answered()
            patience.check()
            if watch is not None:
                watch.tell(self.events(identifier, watch.seen, wait_s))
            waited_s = wait_s if watch is None else 0.0
            reply = self._transport.request("GET", f"{_job(identifier)}?wait={waited_s:g}", extra_timeout_s=waited_s)
            status = JobStatus.from_json(reply.body)
        if watch is not None:
            watch.tell(self.events(identifier, watch.seen))
        return status

    def _refuse_unfit(self, blobs: Tuple[BlobRef, ...], name: str, info: DeviceInfo) -> DeviceInfo:
        """Raise what `artifacts.refuse_unfit` does before anything is sent; return what the device is now.

        What it was when asked earlier is no reason: it may have been updated.
        """
        _refuse_large(blobs, info)
        files = self._files.known(blobs)
        runtime = next((one for one in info.runtimes if one.name == name), None)
        if len(files) < len(blobs) or runtime is None:
            return info  # the agent looks, and says so
        kind = next(kind for kind, names in ARTIFACTS.items() if names[0] in files)
        try:
            artifacts.refuse_unfit(kind, files, runtime)
        except MeasurementFailed:
            now = self.device()
            if now.runtimes == info.runtimes:
                raise
            return self._refuse_unfit(blobs, name, now)
        return info

    def _cancel_quietly(self, identifier: str) -> None:
        # Out of reach: the device finishes it, and the result waits for who asks again.
        with contextlib.suppress(EvaluatorError):
            self.cancel(identifier)

    def _patience(self, cancel: Optional[threading.Event]) -> Patience:
        return Patience(self._backoff, self._deadline_s, cancel)


class _Watch:
    """Hands each event to the caller once, over lost connections and restarts."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.seen = 0

    def tell(self, events: List[Event]) -> None:
        for event in events:
            self.seen = max(self.seen, event.n)
            self._on_event(event)


def _refuse_large(blobs: Tuple[BlobRef, ...], info: DeviceInfo) -> None:
    for blob in blobs:
        if blob.size > info.max_blob_bytes:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"{blob.name} has {blob.size} bytes, the device takes files of up to {info.max_blob_bytes}",
            )
    model_mb = sum(blob.size for blob in blobs if blob.name in ARTIFACT_NAMES) / 1e6
    if info.memory_mb is not None and model_mb > info.memory_mb:
        raise MeasurementFailed(
            "out_of_memory", f"the model alone has {model_mb:.0f} MB, the device has {info.memory_mb} MB of memory"
        )


def _checked(status: JobStatus, spec: JobSpec, info: DeviceInfo) -> Result:
    if status.state == "cancelled":
        raise JobCancelled(f"job {status.id} was cancelled on the device")
    if status.state == "failed":
        raise error_from_json(dict(status.error or {}))
    result = status.result
    expected = (spec.kind, job_id(spec, info.device_id), info.device_id)
    is_expected = result is not None and (status.kind, result.job_id, result.device_id) == expected
    if result is None or not is_expected or getattr(result, "artifact", spec.artifact) != spec.artifact:
        raise MeasurementFailed("protocol", f"the result of job {status.id} is of another job")
    return result


def _elsewhere(wanted: str, result: Result) -> EnvironmentChanged:
    found = result.environment_id
    return EnvironmentChanged(
        f"job {result.job_id} was measured in the environment {found}, not in {wanted}",
        {"wanted": wanted, "found": found},
    )


def _job(identifier: str) -> str:
    return f"/v1/jobs/{identifier}"


def _get(body: Any, key: str) -> Any:
    return body.get(key) if isinstance(body, dict) else None
