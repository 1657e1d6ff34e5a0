"""The fields that results of all kinds share."""

from typing import Mapping

from vitsearch_agent.base import json_reader
from vitsearch_agent.wire.measure_protocol import read_shapes

OF_EVERY_RESULT: Mapping[str, json_reader.Reader] = {
    "job_id": json_reader.sha256,
    "device_id": json_reader.text,
    "environment_id": json_reader.sha256,
    "runtime": json_reader.text,
    "options": json_reader.mapping(),
    "attempts": json_reader.integer(1),
    "queue_s": json_reader.number(),
    "seconds": json_reader.number(),
    "cpu_seconds": json_reader.number(),
    "emulated": json_reader.boolean,
    "started_at": json_reader.text,
}
"""Their readers. `attempts` counts starts, more than 1 after an interruption; `queue_s` is the time in the queue,
`seconds` the time of the work, `cpu_seconds` that of its processes on a processor; `started_at` is UTC by the device's
own clock."""

OF_A_MODEL: Mapping[str, json_reader.Reader] = dict(
    OF_EVERY_RESULT,
    artifact=json_reader.sha256,
    runtime_version=json_reader.text,
    batch=json_reader.integer(1),
    shapes=json_reader.optional(read_shapes),
)
"""The readers of the fields that results about a model share. `batch` is the number of images in a run, `shapes` the
shape of each input (input -> its sizes); None if the runtime does not tell."""
