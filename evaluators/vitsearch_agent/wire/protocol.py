"""The protocol between a client and the agent: HTTP/1.1, JSON, version 4.

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
    PUT    /v1/jobs/{id}?asker=TOKEN
                                {"api", "device_id", "owner": Owner, "spec": JobSpec,
                                 "environment_id": null for any, else the only one}
                                -> 201, or 200 if the job exists: JobStatus
                                   409 another spec, device or environment
                                   413 or 507 no room for its files together,
                                   424 missing blobs, 429 too many jobs in the queue,
                                   507 no room in the queue's file
                                   TOKEN names this client to `DELETE`; by default, the study does
    GET    /v1/jobs/{id}?wait=S -> JobStatus, as soon as it is final or after S (at most 25) seconds
    GET    /v1/jobs/{id}/events?after=N&wait=S
                                -> {"events": [Event]} with numbers above N, as soon as there are
                                   any; empty if the job is final or after S seconds
    GET    /v1/jobs/{id}/outputs?part=K&offset=N
                                -> up to `chunk_max_bytes` raw bytes of part K (0, 1, ...) of an outputs
                                   job's outputs (see OutputsResult) from byte N of the part on, and the
                                   header Upload-Length with the size of the part; 404 if there is none,
                                   with details.reason `evicted` if it was removed
    DELETE /v1/jobs/{id}        -> JobStatus; cancels a job that is not final. With `?asker=TOKEN` that
                                   client gives it up, and it goes on for others that have asked for it
    GET    /v1/jobs             -> {"jobs": [JobStatus without results]}: the running job, then the
                                   queued ones in the order in which they will be served

A job's kind decides its manifest and the class of its result:

    measure     a model                 Measurement
    outputs     a model, images.npy     OutputsResult
    peaks       nothing                 PeaksResult

An outputs job also names a reduction (`reductions.REDUCTIONS`): what of the model's outputs is kept. The agent knows no
task: who asks for the outputs has the labels, and computes metrics.

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
    IMAGES_NAME,
    JOB_KINDS,
    BlobRef,
    JobSpec,
    Owner,
    job_id,
)
from vitsearch_agent.wire.job_status import FINAL_STATES, JOB_STATES, JobStatus, Result
from vitsearch_agent.wire.measure_protocol import (
    CONFIRM,
    MINIMUM_RUNS,
    OUTPUTS,
    PEAKS,
    PROTOCOLS,
    SCREEN,
    MeasureProtocol,
)
from vitsearch_agent.wire.measurement import Contention, Latency, Measurement, Power, Temperature
from vitsearch_agent.wire.reductions import REDUCTIONS, Reduction
from vitsearch_agent.wire.results import (
    OUTPUTS_MAX_BYTES,
    PART_MAX_BYTES,
    Gemm,
    OutputsResult,
    Part,
    PeaksResult,
    Rate,
)

PROTOCOL_VERSION = 5
PROTOCOL_VERSION_MIN = 5
"""The oldest version that this code supports."""

CHUNK_MAX_BYTES = 1 << 20
JSON_MAX_BYTES = 1 << 20
WAIT_MAX_S = 25.0

__all__ = [
    "ARTIFACTS",
    "ARTIFACT_NAMES",
    "CHUNK_MAX_BYTES",
    "CONFIRM",
    "FINAL_STATES",
    "IMAGES_NAME",
    "JOB_KINDS",
    "JOB_STATES",
    "JSON_MAX_BYTES",
    "MINIMUM_RUNS",
    "OUTPUTS",
    "OUTPUTS_MAX_BYTES",
    "PART_MAX_BYTES",
    "PEAKS",
    "PROTOCOLS",
    "PROTOCOL_VERSION",
    "PROTOCOL_VERSION_MIN",
    "REDUCTIONS",
    "SCREEN",
    "WAIT_MAX_S",
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
    "OutputsResult",
    "Owner",
    "Part",
    "Power",
    "PeaksResult",
    "Rate",
    "Reduction",
    "Result",
    "RuntimeInfo",
    "Temperature",
    "job_id",
]
