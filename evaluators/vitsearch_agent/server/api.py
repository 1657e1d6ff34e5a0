"""The endpoints without HTTP: each takes JSON values and returns (status, JSON value)."""

import math
import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from vitsearch_agent import artifacts, runtimes
from vitsearch_agent.base import json_reader, npy
from vitsearch_agent.conditions.environment import environment_id
from vitsearch_agent.conditions.thermal import Thermometer
from vitsearch_agent.errors import (
    ArtifactMissing,
    DeviceBusy,
    DeviceChanged,
    EnvironmentChanged,
    InvalidRequest,
    JobConflict,
    MeasurementFailed,
    NotFound,
    ProtocolSkew,
)
from vitsearch_agent.measure import time_limits
from vitsearch_agent.queue.blob_store import BlobStore, UploadProgress
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.server.audit_log import AuditLog
from vitsearch_agent.server.device import Device
from vitsearch_agent.server.worker import Worker
from vitsearch_agent.wire.protocol import (
    CHUNK_MAX_BYTES,
    IMAGES_NAME,
    JOB_KINDS,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    WAIT_MAX_S,
    DeviceInfo,
    JobSpec,
    OutputsResult,
    Owner,
    job_id,
)

Reply = Tuple[int, Dict[str, Any]]
Piece = Tuple[bytes, int]

_READY_WAIT_S = 60.0
_NUMBER = re.compile(r"[0-9]{1,15}\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")

_UPLOAD = {"sha256": json_reader.sha256, "size": json_reader.integer(1, 2**50)}
_JOB = {
    "api": json_reader.integer(),
    "device_id": json_reader.text,
    "owner": Owner.from_json,
    "spec": JobSpec.from_json,
    "environment_id": json_reader.optional(json_reader.sha256),
}


def checked_id(text: str) -> str:
    """Return a job id or digest from a path; NotFound if it does not have the form of one."""
    if not _ID.match(text):
        raise NotFound(f"ids and digests are 64 lower-case hex digits, got {text[:80]!r}")
    return text


class Api(NamedTuple):
    """The endpoints of one agent. Each raises AgentError for every refusal."""

    this_device: Device
    store: BlobStore
    queue: JobQueue
    worker: Worker
    audit: AuditLog

    def health(self) -> Reply:
        quarantined = self.worker.canary.quarantined
        quarantine = None if quarantined is None else f"quarantine: {quarantined}"
        problems = [problem for problem in (self.store.problem(), self.worker.problem, quarantine) if problem]
        alive = self.worker.is_alive()
        if not alive:
            problems.append("the measuring thread has ended")
        return 200, {
            "ok": not problems,
            "problems": problems,
            "worker_alive": alive,
            "version": self.this_device.version,
            "api_min": PROTOCOL_VERSION_MIN,
            "api_max": PROTOCOL_VERSION,
        }

    def device(self) -> Reply:
        environment = self._environment()
        queued, running = self.queue.counts()
        info = DeviceInfo(
            api_min=PROTOCOL_VERSION_MIN,
            api_max=PROTOCOL_VERSION,
            agent_version=self.this_device.version,
            device_id=self.this_device.identity.device_id,
            kind=self.this_device.identity.kind,
            environment_id=environment_id(environment),
            fingerprint=environment,
            runtimes=self.this_device.runtimes,
            job_kinds=JOB_KINDS,
            max_blob_bytes=self.store.limits.max_blob_bytes,
            queued=queued,
            running=running,
            memory_mb=environment["ram_mb"],
            quarantined=self.worker.canary.quarantined,
            power_meter=self.worker.power_meter,
            emulation=environment.get("emulation"),
            restrictions=self.this_device.restrictions,
            hardware=self.this_device.identity.hardware,
        )
        return 200, info.to_json()

    def conditions(self) -> Reply:
        thermometer = Thermometer(self.this_device.system)
        heat = thermometer.read()
        return 200, {
            "temperature_c": None if heat is None else heat.celsius,
            "zone": None if heat is None else heat.zone,
            "reason": thermometer.reason,
        }

    def prepare_upload(self, body: Any) -> Reply:
        upload = json_reader.read_object(body, _UPLOAD, "upload")
        progress = self.store.prepare(upload["sha256"], upload["size"])
        reply = dict(_progress(progress), chunk_max_bytes=CHUNK_MAX_BYTES)
        return 200 if progress.complete else 201, reply

    def blob(self, sha256: str) -> UploadProgress:
        return self.store.progress(checked_id(sha256))

    def append(self, sha256: str, offset: int, total: int, chunk: bytes, caller: str) -> Reply:
        progress = self.store.append(checked_id(sha256), offset, total, chunk)
        if progress.complete:
            self.audit.write("upload", address=caller, digest=sha256, bytes=progress.offset)
        return 200, _progress(progress)

    def put_job(self, identifier: str, body: Any, asker: Optional[str], caller: str) -> Reply:
        checked_id(identifier)
        protocol = body.get("api") if isinstance(body, dict) else None
        if not isinstance(protocol, int) or not PROTOCOL_VERSION_MIN <= protocol <= PROTOCOL_VERSION:
            raise ProtocolSkew(
                f"the client uses protocol {protocol!r}, this agent {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}"
            )
        job = json_reader.read_object(body, _JOB, "job", ("environment_id",))
        device_id, spec = self.this_device.identity.device_id, job["spec"]
        if job["device_id"] != device_id:
            raise DeviceChanged(f"the job is for the device {job['device_id']}; this is {device_id}")
        if job_id(spec, device_id) != identifier:
            raise JobConflict(f"{identifier} is not the id of this job: see protocol.job_id")
        runtime = runtimes.create(spec.runtime)
        runtime.check_options(spec.options)
        if spec.kind == "outputs" and not runtime.gives_outputs:
            raise InvalidRequest(f"spec.runtime: {spec.runtime} gives no outputs")
        missing = [blob.sha256 for blob in spec.manifest if not self.store.has(blob.sha256)]
        # A final job no longer needs its blobs, and they may have been removed.
        if missing and not self._is_final(identifier):
            self.store.refuse_unfit({blob.sha256: blob.size for blob in spec.manifest})
            raise ArtifactMissing(f"upload {', '.join(missing)} first", {"missing": missing})
        self._refuse_wrong_sizes(spec)
        wanted = job.get("environment_id")
        if wanted is not None:
            actual = environment_id(self._environment())
            if wanted != actual:
                raise EnvironmentChanged(
                    f"the job is for the environment {wanted}; the device is now in {actual}",
                    {"wanted": wanted, "actual": actual},
                )
        if not self._is_known(identifier):
            time_limits.refuse_too_long(spec, self.this_device.config.limits.job_max_s)
            self._refuse_incompatible(spec)
        status, created = self.queue.put(identifier, spec, job["owner"], wanted, asker)
        if created:
            owner = job["owner"].study
            self.audit.write("job", address=caller, owner=owner, job=identifier, digest=spec.artifact)
        return 201 if created else 200, status.to_json()

    def get_job(self, identifier: str, wait: str) -> Reply:
        return 200, self.queue.wait(checked_id(identifier), _seconds(wait)).to_json()

    def events(self, identifier: str, after: str, wait: str) -> Reply:
        if not _NUMBER.match(after):
            raise InvalidRequest(f"after: expected the number of an event, got {after[:80]!r}")
        events = self.queue.events(checked_id(identifier), int(after), _seconds(wait))
        return 200, {"events": [event.to_json() for event in events]}

    def outputs(self, identifier: str, part: str, offset: str) -> Piece:
        """Return a piece of a part of the outputs and the part's size; NotFound explains why there is none."""
        for name, number in (("part", part), ("offset", offset)):
            if not _NUMBER.match(number):
                raise InvalidRequest(f"{name}: expected a whole number, got {number[:80]!r}")
        status = self.queue.get(checked_id(identifier))
        if not isinstance(status.result, OutputsResult):
            raise NotFound(f"job {identifier} has no outputs: it is a {status.kind} job and {status.state}")
        parts = status.result.parts
        if int(part) >= len(parts):
            raise NotFound(f"job {identifier} has no part {int(part)} of its outputs: they have {len(parts)}")
        try:
            return self.store.read(parts[int(part)].sha256, int(offset), CHUNK_MAX_BYTES)
        except NotFound as error:
            message = f"outputs of job {identifier} were evicted to make room; submit the job with another repeat"
            raise NotFound(message, {"reason": "evicted"}) from error

    def cancel_job(self, identifier: str, asker: Optional[str], caller: str) -> Reply:
        status = self.queue.cancel(checked_id(identifier), asker)
        self.audit.write("cancel", address=caller, owner=status.owner.study, job=identifier)
        return 200, status.to_json()

    def jobs(self) -> Reply:
        return 200, {"jobs": [status.to_json() for status in self.queue.active()]}

    def _environment(self) -> Dict[str, Any]:
        self._await_runtimes()
        return self.this_device.environment()

    def _await_runtimes(self) -> None:
        if not self.this_device.ready.wait(_READY_WAIT_S):
            raise DeviceBusy("the agent is still checking its runtimes")

    def _refuse_wrong_sizes(self, spec: JobSpec) -> None:
        """Refuse wrong sizes: they are not part of a job's id, so a wrong one would block the id for a correct job."""
        for blob in spec.manifest:
            size = self.store.size(blob.sha256)
            if size not in (None, blob.size):
                self._refuse_damaged(spec)
                raise InvalidRequest(f"spec.manifest: {blob.name} has {size} bytes, not {blob.size}")

    def _refuse_incompatible(self, spec: JobSpec) -> None:
        """Refuse a new job whose model this device cannot run, before it is queued."""
        self._await_runtimes()
        runtime = self.this_device.runtime(spec.runtime)
        if runtime is not None:
            files = {blob.name: self.store.path(blob.sha256) for blob in spec.manifest}
            try:
                if spec.model:
                    artifacts.refuse_incompatible(spec.artifact_kind, files, runtime)
                if spec.kind == "outputs":
                    npy.check_images(files[IMAGES_NAME])
            except (MeasurementFailed, InvalidRequest):
                self._refuse_damaged(spec)
                raise

    def _refuse_damaged(self, spec: JobSpec) -> None:
        """Ask for files again that have changed on the disk since they arrived: what they say is not believed."""
        damaged = [blob.sha256 for blob in spec.manifest if self.store.drop_damaged(blob.sha256)]
        if damaged:
            raise ArtifactMissing(f"upload {', '.join(damaged)} again: damaged on the disk", {"missing": damaged})

    def _is_known(self, identifier: str) -> bool:
        try:
            self.queue.get(identifier)
        except NotFound:
            return False
        return True

    def _is_final(self, identifier: str) -> bool:
        try:
            status = self.queue.get(identifier)
        except NotFound:
            return False
        return status.state == "done" or (status.state == "failed" and not (status.error or {}).get("retryable"))


def _seconds(wait: str) -> float:
    try:
        seconds = float(wait)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidRequest(f"wait: expected seconds, got {wait[:80]!r}")
    return min(max(seconds, 0.0), WAIT_MAX_S)


def _progress(progress: UploadProgress) -> Dict[str, Any]:
    return {"complete": progress.complete, "offset": progress.offset}
