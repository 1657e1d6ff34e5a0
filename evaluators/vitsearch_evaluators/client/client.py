"""Talk to one device: upload a model, have it measured, get the result, whatever happens between.

Every request may be repeated without harm, so the answer to a lost connection, a rebooted board or
a restarted agent is always the same: wait a little and ask again, until the device was silent for
`deadline_s`. What the device measured during a cut is fetched afterwards, not measured again.
"""

import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from vitsearch_evaluators.client import compatibility
from vitsearch_evaluators.client.endpoints import Endpoints, job_path
from vitsearch_evaluators.client.remote_job import RemoteJob, RequestOptions
from vitsearch_evaluators.client.retry import Backoff, OnTrouble, RetryPolicy
from vitsearch_evaluators.client.transfer import Subset, Transfer
from vitsearch_evaluators.client.transport import Address, Transport
from vitsearch_evaluators.errors import DeviceChanged, EnvironmentChanged, MeasurementFailed
from vitsearch_evaluators.wire.protocol import (
    ACCURACY,
    PEAKS,
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
    PeaksResult,
    Result,
)

__all__ = ["Backoff", "DeviceClient", "Subset", "RequestOptions"]


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
        self._deadline_s = deadline_s
        self._backoff = backoff
        self._info: Optional[DeviceInfo] = None
        self._endpoints = Endpoints(self._transport)
        self._files = Transfer(self._transport)
        self._errand = RemoteJob(self._endpoints, self._files, owner if isinstance(owner, Owner) else Owner(owner))

    def device(self) -> DeviceInfo:
        """Ask what the device is; one attempt. Raises ProtocolSkew naming both versions."""
        self._info = self._endpoints.device()
        return self._info

    def await_device(self, request: RequestOptions = RequestOptions()) -> DeviceInfo:  # noqa: B008 - immutable
        """Ask what the device is until it answers. Raises as `measure` does."""
        return self._patience(request.cancel, request.on_trouble).ask(self.device)

    def conditions(self) -> Dict[str, Any]:
        """Ask how warm the device is now: {"temperature_c", "zone", "reason"}."""
        return self._endpoints.conditions()

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
        request: RequestOptions = RequestOptions(),  # noqa: B008 - immutable
    ) -> Measurement:
        """Measure a model file, or an uploaded one by its digest, and wait for the result.

        Raises MeasurementFailed when the model was tried and failed, JobCancelled, EnvironmentChanged
        (ask `device` again), and DeviceUnreachable or DeviceBusy after `deadline_s` without an answer
        that helps.
        """
        asked = JobSpec("measure", (), runtime, dict(options or {}), protocol, repeat)
        result = self._try_model(path_or_digest, None, asked, request)
        assert isinstance(result, Measurement)
        return result

    def accuracy(
        self,
        path_or_digest: str,
        subset: Subset,
        runtime: str = "onnxruntime",
        options: Optional[Mapping[str, Any]] = None,
        protocol: MeasureProtocol = ACCURACY,
        repeat: int = 0,
        request: RequestOptions = RequestOptions(),  # noqa: B008 - immutable
    ) -> AccuracyResult:
        """Classify a validation subset on the device and wait for what comes of it.

        The subset is sent once, whatever number of models is judged by it. Otherwise as `measure`.
        """
        asked = JobSpec("accuracy", (), runtime, dict(options or {}), protocol, repeat)
        result = self._try_model(path_or_digest, subset, asked, request)
        assert isinstance(result, AccuracyResult)
        return result

    def peaks(
        self,
        runtime: str = "onnxruntime",
        threads: Optional[int] = None,
        options: Optional[Mapping[str, Any]] = None,
        cancel: Optional[threading.Event] = None,
    ) -> PeaksResult:
        """Return the peaks of the device, measured once in each of its environments.

        They are those of one thread and of `threads` (None: as many as the agent has processors).
        """
        retry_policy = self._patience(cancel)
        info = retry_policy.ask(self.device)
        if threads is None:
            threads = len(info.fingerprint.get("affinity") or ()) or info.fingerprint.get("cores") or 1
        spec = JobSpec("peaks", (), runtime, dict(options or {}), PEAKS._replace(threads=threads))
        result = self._result(spec, RequestOptions(info.environment_id), info, retry_policy)
        assert isinstance(result, PeaksResult)
        return result

    def logits(self, result: AccuracyResult, path: str) -> None:
        """Write the logits of an accuracy job to a file (see AccuracyResult), going on after any cut.

        NotFound when the device had no room to keep them; TransferFailed when they are damaged.
        """
        size = result.n * result.classes * 4
        endpoint = f"{job_path(result.job_id)}/logits"
        self._files.fetch(endpoint, size, result.logits_sha256, path, self._patience(None))

    def cancel(self, identifier: str) -> JobStatus:
        """Cancel a job; one that is final stays as it is. NotFound when unknown."""
        return self._endpoints.cancel(identifier)

    def events(self, identifier: str, after: int = 0, wait_s: float = 0.0) -> List[Event]:
        """Return what happened to a job after event number `after`, waiting for something up to `wait_s`."""
        return self._endpoints.events(identifier, after, wait_s)

    def jobs(self) -> List[JobStatus]:
        """Return the jobs of all owners: the running one, then the queued as they will be served."""
        return self._endpoints.jobs()

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        self._transport.close()

    def __enter__(self) -> "DeviceClient":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _try_model(
        self, path_or_digest: str, subset: Optional[Subset], asked: JobSpec, request: RequestOptions
    ) -> Result:
        """Return the result of what is asked of a model, which becomes its manifest."""
        retry_policy = self._patience(request.cancel, request.on_trouble)
        info = self._info or retry_policy.ask(self.device)
        model = retry_policy.ask(lambda: self._files.manifest(path_or_digest))
        judged_by = () if subset is None else retry_policy.ask(lambda: self._files.subset(subset))
        info = retry_policy.ask(lambda: self._refuse_unfit(model, asked.runtime, info))
        return self._result(asked._replace(manifest=model + judged_by), request, info, retry_policy)

    def _refuse_unfit(self, model: Tuple[BlobRef, ...], runtime: str, info: DeviceInfo) -> DeviceInfo:
        """Raise why the device cannot run a model before anything is sent; return what the device is now.

        What it was when asked earlier is no reason: it may have been updated. A model whose files are not
        known here is looked at by the agent.
        """
        compatibility.refuse_large(model, info)
        files = self._files.known(model)
        if len(files) < len(model):
            return info
        try:
            compatibility.refuse_unfit(files, runtime, info)
        except MeasurementFailed:
            now = self.device()
            if now.runtimes == info.runtimes:
                raise
            return self._refuse_unfit(model, runtime, now)
        return info

    def _result(self, spec: JobSpec, request: RequestOptions, info: DeviceInfo, retry_policy: RetryPolicy) -> Result:
        try:
            return self._errand.result(spec, request, info, retry_policy)
        except (DeviceChanged, EnvironmentChanged):
            self._info = None
            raise

    def _patience(self, cancel: Optional[threading.Event], on_trouble: Optional[OnTrouble] = None) -> RetryPolicy:
        return RetryPolicy(self._backoff, self._deadline_s, cancel, on_trouble)
