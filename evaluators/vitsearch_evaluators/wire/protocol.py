"""The wire between a client and the agent: HTTP/1.1, JSON, version 1.

    GET    /v1/health           -> {"ok", "api_min", "api_max", "version", "worker_alive",
                                    "problems"}                                  (no token needed)
    GET    /v1/device           -> DeviceInfo
    GET    /v1/conditions       -> {"temperature_c", "zone", "reason"} as they are now
    POST   /v1/uploads          {"sha256", "size"}
                                -> 200 or 201 {"complete", "offset", "chunk_max_bytes"}
                                   413 or 507 before a byte is sent
    HEAD   /v1/blobs/{sha256}   -> Upload-Offset; Upload-Length too when complete; 404 when unknown
    PATCH  /v1/blobs/{sha256}   bytes, with the headers Upload-Offset and Upload-Length
                                -> {"complete", "offset"}
                                   409 wrong offset (details.offset: go on there)
                                   422 wrong content (the partial file is gone)
    PUT    /v1/jobs/{id}        {"api", "device_id", "owner": Owner, "spec": JobSpec,
                                 "environment_id": none, or the only one to measure in}
                                -> 201 or, the same job again, 200 JobStatus
                                   409 another spec, device or environment
                                   424 blobs that are missing, 429 too many jobs in the queue,
                                   507 no room in the queue's file
    GET    /v1/jobs/{id}?wait=S -> JobStatus, when final or after S (at most 25) seconds
    GET    /v1/jobs/{id}/events?after=N&wait=S
                                -> {"events": [Event]}, those numbered above N, as soon as there
                                   are any; empty when the job is final or after S seconds
    GET    /v1/jobs/{id}/logits?offset=N
                                -> up to `chunk_max_bytes` of an accuracy job's logits from byte N on,
                                   as they are (see AccuracyResult), with the header Upload-Length, the
                                   size of all; 404 when there are none, or (details.reason
                                   `evicted`) no more
    DELETE /v1/jobs/{id}        -> JobStatus; cancels what is not final
    GET    /v1/jobs             -> {"jobs": [JobStatus without results]}, those not final: what
                                   runs, then the queue in the order in which it will be served

A job's kind says what its manifest holds and what its result is:

    measure     a model                             Measurement
    accuracy    a model, images.npy, labels.npy     AccuracyResult
    peaks       nothing                             PeaksResult

`Authorization: Bearer TOKEN` goes with every request but health. Any request may be answered with 413 (a
body that is too large), 429 (too many in a second), 431 (a head that is too large) or 503 (not now, or too
many connections); 429 and 503 come with Retry-After. An error is
`{"error": {"code", "message", "retryable", "details"}}` (see `errors`). Every request may be
repeated: content is addressed by digest, and a job's id follows from what is asked (`job_id`).
Readers are strict: a key that is unknown or missing is an error, so a new key needs a new version.
"""

from vitsearch_evaluators.wire.device_info import DeviceInfo, RuntimeInfo
from vitsearch_evaluators.wire.events import Event
from vitsearch_evaluators.wire.job_spec import (
    ACCURACY,
    ARTIFACT_NAMES,
    ARTIFACTS,
    CONFIRM,
    JOB_KINDS,
    MINIMUM_RUNS,
    PEAKS,
    PROTOCOLS,
    SCREEN,
    SUBSET_NAMES,
    BlobRef,
    JobSpec,
    MeasureProtocol,
    Owner,
    job_id,
)
from vitsearch_evaluators.wire.job_status import FINAL_STATES, JOB_STATES, JobStatus, Result
from vitsearch_evaluators.wire.measurement import Contention, Latency, Measurement, Power, Temperature
from vitsearch_evaluators.wire.results import AccuracyResult, Gemm, PeaksResult, Rate

PROTOCOL_VERSION = 1
PROTOCOL_VERSION_MIN = 1
"""The oldest version that this code still speaks."""

CHUNK_MAX_BYTES = 1 << 20
JSON_MAX_BYTES = 1 << 20
WAIT_MAX_S = 25.0

__all__ = [
    "ACCURACY",
    "ARTIFACTS",
    "ARTIFACT_NAMES",
    "CHUNK_MAX_BYTES",
    "CONFIRM",
    "FINAL_STATES",
    "JOB_KINDS",
    "JOB_STATES",
    "JSON_MAX_BYTES",
    "MINIMUM_RUNS",
    "PEAKS",
    "PROTOCOLS",
    "PROTOCOL_VERSION",
    "PROTOCOL_VERSION_MIN",
    "SCREEN",
    "SUBSET_NAMES",
    "WAIT_MAX_S",
    "AccuracyResult",
    "BlobRef",
    "Contention",
    "DeviceInfo",
    "Event",
    "Gemm",
    "JobSpec",
    "JobStatus",
    "Latency",
    "MeasureProtocol",
    "Measurement",
    "Owner",
    "Power",
    "PeaksResult",
    "Rate",
    "Result",
    "RuntimeInfo",
    "Temperature",
    "job_id",
]
