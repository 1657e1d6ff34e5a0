"""The state of a job, with its result or error."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Union

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.job_spec import Owner
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.results import OutputsResult, PeaksResult

FINAL_STATES = ("done", "failed", "cancelled")
JOB_STATES = ("queued", "running") + FINAL_STATES


Result = Union[Measurement, OutputsResult, PeaksResult]
RESULTS: Mapping[str, json_reader.Reader] = {
    "measure": Measurement.from_json,
    "outputs": OutputsResult.from_json,
    "peaks": PeaksResult.from_json,
}
"""Kind of job -> the reader of its result."""


class JobStatus(NamedTuple):
    """The state of a job. A done job has a `result` of its `kind`, a failed one an `error` (AgentError as JSON)."""

    id: str
    state: str
    owner: Owner
    attempts: int
    error: Optional[Mapping[str, Any]]
    result: Optional[Result]
    kind: str = "measure"

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    def to_json(self) -> Dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "owner": self.owner.to_json(),
            "attempts": self.attempts,
            "error": None if self.error is None else dict(self.error),
            "result": None if self.result is None else self.result.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "job") -> "JobStatus":
        status = json_reader.read_object(value, _STATUS, where)
        if status["kind"] not in RESULTS:
            raise InvalidRequest(f"{where}.kind: {status['kind']!r} is not one of {', '.join(RESULTS)}")
        read = json_reader.optional(RESULTS[status["kind"]])
        return cls(**dict(status, result=read(status["result"], f"{where}.result")))


_STATUS: Mapping[str, json_reader.Reader] = {
    "id": json_reader.sha256,
    "kind": json_reader.text,
    "state": json_reader.text,
    "owner": Owner.from_json,
    "attempts": json_reader.integer(),
    "error": json_reader.optional(json_reader.mapping()),
    "result": json_reader.optional(json_reader.mapping()),
}
