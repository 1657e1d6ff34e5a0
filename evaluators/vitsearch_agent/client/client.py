"""A client for one device: upload a model, have it measured, and get the result in spite of faults.

Every request may be repeated without harm. So the client always reacts in the same way to a lost connection, a
reboot or a restarted agent: it waits a little and repeats the request, until the device has not answered for
`deadline_s`. A result that the device measured while the network was down is fetched later and not measured again.
"""

import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from vitsearch_agent.client import compatibility
from vitsearch_agent.client.endpoints import Endpoints, job_path
from vitsearch_agent.client.remote_job import RemoteJob, RequestOptions
from vitsearch_agent.client.retry import Backoff, OnTrouble, RetryPolicy
from vitsearch_agent.client.transfer import Transfer
from vitsearch_agent.client.transport import Address, Transport
from vitsearch_agent.errors import DeviceChanged, EnvironmentChanged, MeasurementFailed
from vitsearch_agent.runtime_facts import DEFAULT_RUNTIME
from vitsearch_agent.wire.protocol import (
    OUTPUTS,
    PEAKS,
    SCREEN,
    BlobRef,
    DeviceInfo,
    Event,
    JobSpec,
    JobStatus,
    Measurement,
    MeasureProtocol,
    OutputsResult,
    Owner,
    PeaksResult,
    Result,
)

__all__ = ["Backoff", "DeviceClient", "RequestOptions"]


class DeviceClient:
    """A client of the device at `address` (a URL, or a function that returns it), for one study.

    `owner` is the study under which its jobs are queued. `fingerprint` pins the certificate of an https address (see
    `tls`).

    Use one thread to measure; other threads may call `cancel`, `jobs` and `device` meanwhile.
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
        self._deadline_s = deadline_s
        self._backoff = backoff
        self._info: Optional[DeviceInfo] = None
        self._endpoints = Endpoints(self._transport)
        self._files = Transfer(self._transport)
        self.owner = owner if isinstance(owner, Owner) else Owner(owner)
        self._remote_job = RemoteJob(self._endpoints, self._files, self.owner)

    def device(self) -> DeviceInfo:
        """Ask the device for its description, once. Raises ProtocolSkew, which names both versions."""
        self._info = self._endpoints.device()
        return self._info

    def await_device(self, request: RequestOptions = RequestOptions()) -> DeviceInfo:  # noqa: B008 - immutable
        """Ask the device for its description until it answers. Raises as `measure` does."""
        return self._retry_policy(request.cancel, request.on_trouble).ask(self.device)

    def conditions(self) -> Dict[str, Any]:
        """Ask for the current temperature: {"temperature_c", "zone", "reason"}."""
        return self._endpoints.conditions()

    def upload(self, path: str, cancel: Optional[threading.Event] = None) -> str:
        """Send a file to the device and return its digest; an interrupted upload continues at its offset.

        Raises TransferFailed if it does not fit or arrives damaged twice.
        """
        return self._files.upload(path, self._retry_policy(cancel))

    def measure(
        self,
        path_or_digest: str,
        runtime: str = DEFAULT_RUNTIME,
        options: Optional[Mapping[str, Any]] = None,
        protocol: MeasureProtocol = SCREEN,
        repeat: int = 0,
        request: RequestOptions = RequestOptions(),  # noqa: B008 - immutable
    ) -> Measurement:
        """Measure a model file, or an uploaded one given by its digest, and wait for the result.

        Raises MeasurementFailed if the model failed on the device, JobCancelled, EnvironmentChanged (ask `device`
        again), and DeviceUnreachable or DeviceBusy after `deadline_s` without a useful answer.
        """
        spec = JobSpec("measure", (), runtime, dict(options or {}), protocol, repeat)
        result = self._model_result(path_or_digest, None, spec, request)
        assert isinstance(result, Measurement)
        return result

    def outputs(
        self,
        path_or_digest: str,
        images: str,
        reduction: str = "none",
        runtime: str = DEFAULT_RUNTIME,
        options: Optional[Mapping[str, Any]] = None,
        protocol: MeasureProtocol = OUTPUTS,
        repeat: int = 0,
        request: RequestOptions = RequestOptions(),  # noqa: B008 - immutable
    ) -> OutputsResult:
        """Run a model on images on the device and wait for the result, which describes its outputs (`fetch_outputs`).

        `images` is the path of a .npy file in the form of `npy.check_images`, or the digest of an uploaded one; it is
        sent only once for any number of models. `reduction` says what of the outputs is kept (`reductions`). Otherwise
        as `measure`.
        """
        spec = JobSpec("outputs", (), runtime, dict(options or {}), protocol, repeat, reduction)
        result = self._model_result(path_or_digest, images, spec, request)
        assert isinstance(result, OutputsResult)
        return result

    def fetch_outputs(
        self,
        result: OutputsResult,
        path: str,
        request: RequestOptions = RequestOptions(),  # noqa: B008 - immutable
    ) -> None:
        """Write the outputs of a job to a .npy file (see OutputsResult), in spite of lost connections.

        What has arrived is kept in `PATH.part` when this call fails, and another call continues after its last whole
        part. NotFound if the device removed outputs to get room (details.reason `evicted`); TransferFailed if a part
        arrives damaged twice.
        """
        retry_policy = self._retry_policy(request.cancel, request.on_trouble)
        self._files.fetch(f"{job_path(result.job_id)}/outputs", result, path, retry_policy)

    def peaks(
        self,
        runtime: str = DEFAULT_RUNTIME,
        threads: Optional[int] = None,
        options: Optional[Mapping[str, Any]] = None,
        cancel: Optional[threading.Event] = None,
    ) -> PeaksResult:
        """Return the peaks of the device; it measures them once in each of its environments.

        They are measured with one thread and with `threads` (None: as many as the agent has processors).
        """
        retry_policy = self._retry_policy(cancel)
        info = retry_policy.ask(self.device)
        if threads is None:
            threads = len(info.fingerprint.get("affinity") or ()) or info.fingerprint.get("cores") or 1
        spec = JobSpec("peaks", (), runtime, dict(options or {}), PEAKS._replace(threads=threads))
        result = self._result(spec, RequestOptions(info.environment_id), info, retry_policy)
        assert isinstance(result, PeaksResult)
        return result

    def cancel(self, identifier: str) -> JobStatus:
        """Cancel a job; a final one is not changed. NotFound if it is unknown."""
        return self._endpoints.cancel(identifier)

    def events(self, identifier: str, after: int = 0, wait_s: float = 0.0) -> List[Event]:
        """Return the events of a job after number `after`, waiting up to `wait_s` for one."""
        return self._endpoints.events(identifier, after, wait_s)

    def jobs(self) -> List[JobStatus]:
        """Return the jobs of all owners: the running one, then the queued ones in the order of service."""
        return self._endpoints.jobs()

    def close(self) -> None:
        """Close the connections; the next request opens a new one."""
        self._transport.close()

    def __enter__(self) -> "DeviceClient":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _model_result(
        self, path_or_digest: str, images: Optional[str], spec: JobSpec, request: RequestOptions
    ) -> Result:
        """Complete the manifest of `spec` and return the result of the job."""
        retry_policy = self._retry_policy(request.cancel, request.on_trouble)
        info = self._info or retry_policy.ask(self.device)
        model = retry_policy.ask(lambda: self._files.manifest(path_or_digest))
        inputs = () if images is None else (retry_policy.ask(lambda: self._files.images(images)),)
        info = retry_policy.ask(lambda: self._refuse_incompatible(model, spec.runtime, info))
        return self._result(spec._replace(manifest=model + inputs), request, info, retry_policy)

    def _refuse_incompatible(self, model: Tuple[BlobRef, ...], runtime: str, info: DeviceInfo) -> DeviceInfo:
        """Raise MeasurementFailed if the device cannot run a model, before any file is sent; return its description.

        The description may be old because the device was updated, so the device is asked again before a refusal.
        The agent checks a model whose files this client does not have.
        """
        compatibility.refuse_too_large(model, info)
        files = self._files.local_paths(model)
        if len(files) < len(model):
            return info
        try:
            compatibility.refuse_incompatible(files, runtime, info)
        except MeasurementFailed:
            now = self.device()
            if now.runtimes == info.runtimes:
                raise
            return self._refuse_incompatible(model, runtime, now)
        return info

    def _result(self, spec: JobSpec, request: RequestOptions, info: DeviceInfo, retry_policy: RetryPolicy) -> Result:
        try:
            return self._remote_job.result(spec, request, info, retry_policy)
        except (DeviceChanged, EnvironmentChanged):
            self._info = None
            raise

    def _retry_policy(self, cancel: Optional[threading.Event], on_trouble: Optional[OnTrouble] = None) -> RetryPolicy:
        return RetryPolicy(self._backoff, self._deadline_s, cancel, on_trouble)
