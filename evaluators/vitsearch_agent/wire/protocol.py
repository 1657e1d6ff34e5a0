"""The protocol between a client and the agent: HTTP/1.1, JSON, version 2.

    GET    /v1/health           -> {"ok", "api_min", "api_max", "version", "worker_alive",
                                    "problems"}                                  (no token needed)
    GET    /v1/device           -> DeviceInfo
    GET    /v1/conditions       -> {"temperature_c", "zone", "reason"}: the current values
    POST   /v1/uploads          {"sha256", "size"}
                                -> 200 or 201 {"complete", "offset", "chunk_max_bytes"}
                                   413 or 507 before any byte is sent
    HEAD   /v1/blobs/{sha256}   -> Upload-Offset; Upload-Length too when complete; 404 when unknown
    PATCH  /v1/blobs/{sha256}   bytes, with the headers Upload-Offset and Upload-Length
                                -> {"complete", "offset"}
                                   409 wrong offset (details.offset: continue there)
                                   422 wrong content (the partial file was removed)
    PUT    /v1/jobs/{id}        {"api", "device_id", "owner": Owner, "spec": JobSpec,
                                 "environment_id": null for any, else the only one}
                                -> 201, or 200 if the job exists: JobStatus
                                   409 another spec, device or environment
                                   424 missing blobs, 429 too many jobs in the queue,
                                   507 no room in the queue's file
    GET    /v1/jobs/{id}?wait=S -> JobStatus, as soon as it is final or after S (at most 25) seconds
    GET    /v1/jobs/{id}/events?after=N&wait=S
                                -> {"events": [Event]} with numbers above N, as soon as there are
                                   any; empty if the job is final or after S seconds
    GET    /v1/jobs/{id}/logits?offset=N
                                -> up to `chunk_max_bytes` raw bytes of an accuracy job's logits
                                   (see AccuracyResult) from byte N on, and the header Upload-Length
                                   with the size of all logits; 404 if there are none, with
                                   details.reason `evicted` if they were removed
    DELETE /v1/jobs/{id}        -> JobStatus; cancels a job that is not final. With `?study=NAME` that study
                                   gives it up, and it goes on for others that have asked for it
    GET    /v1/jobs             -> {"jobs": [JobStatus without results]}: the running job, then the
                                   queued ones in the order in which they will be served

A job's kind decides its manifest and the class of its result:

    measure     a model                             Measurement
    accuracy    a model, images.npy, labels.npy     AccuracyResult
    peaks       nothing                             PeaksResult

Every request except health needs `Authorization: Bearer TOKEN`. Any request may get 413 (the body is too large),
429 (too many requests per second), 431 (the request head is too large) or 503 (not now, or too many
connections); 429 and 503 have the header Retry-After. An error is
`{"error": {"code", "message", "retryable", "details"}}` (see `errors`). A client may repeat every request:
files are addressed by digest, and a job's id is computed from its specification (`job_id`). Readers are strict: an
unknown or missing key is an error, so a new key needs a new version.
"""

from vitsearch_agent.wire.device_info import DeviceInfo, RuntimeInfo
from vitsearch_agent.wire.events import Event
from vitsearch_agent.wire.hardware import Hardware
from vitsearch_agent.wire.job_spec import (
    ARTIFACT_NAMES,
    ARTIFACTS,
    JOB_KINDS,
    SUBSET_NAMES,
    BlobRef,
    JobSpec,
    Owner,
    job_id,
)
from vitsearch_agent.wire.job_status import FINAL_STATES, JOB_STATES, JobStatus, Result
from vitsearch_agent.wire.measure_protocol import (
    ACCURACY,
    CONFIRM,
    MINIMUM_RUNS,
    PEAKS,
    PROTOCOLS,
    SCREEN,
    MeasureProtocol,
)
from vitsearch_agent.wire.measurement import Contention, Latency, Measurement, Power, Temperature
from vitsearch_agent.wire.results import AccuracyResult, Gemm, PeaksResult, Rate

PROTOCOL_VERSION = 2
PROTOCOL_VERSION_MIN = 2
"""The oldest version that this code supports."""

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
    "Hardware",
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
