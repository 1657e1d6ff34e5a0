"""What every result says of its job, whatever kind it is of."""

from typing import Mapping

from vitsearch_evaluators import strict

OF_EVERY_RESULT: Mapping[str, strict.Reader] = {
    "job_id": strict.sha256,
    "device_id": strict.text,
    "environment_id": strict.sha256,
    "runtime": strict.text,
    "options": strict.mapping(),
    "attempts": strict.integer(1),
    "queue_s": strict.number(),
    "seconds": strict.number(),
    "emulated": strict.boolean,
    "started_at": strict.text,
}
"""The readers of these fields. `attempts` counts starts, more than 1 after an interruption; `queue_s` and
`seconds` are waiting and working time; `started_at` is UTC by the device's own clock."""

OF_A_MODEL: Mapping[str, strict.Reader] = dict(
    OF_EVERY_RESULT,
    artifact=strict.sha256,
    runtime_version=strict.text,
)
"""Those of a result that is about a model."""
