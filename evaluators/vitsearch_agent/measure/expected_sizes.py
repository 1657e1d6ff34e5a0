"""The batch and the shapes at which a job's model runs, read from the job and from the file before a child runs."""

import contextlib
import os
from typing import Optional

from vitsearch_agent import artifacts, runtimes
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.shapes import RunShapes, run_shapes
from vitsearch_agent.wire.job_spec import JobSpec


def expected_sizes(spec: JobSpec, folder: str) -> Optional[RunShapes]:
    """Return the sizes of a run of the model in a folder; None where neither the job nor the file says them."""
    protocol = spec.protocol
    if runtimes.create(spec.runtime).ignores_model:
        return RunShapes(protocol.batch or 1, None)
    if spec.artifact_kind in artifacts.DECLARING:
        with contextlib.suppress(MeasurementFailed, OSError):  # the child says what is wrong with it
            declared = artifacts.declared_inputs(spec.artifact_kind, os.path.join(folder, spec.model_name))
            return run_shapes(declared, protocol.batch, protocol.shapes)
    return None if protocol.batch is None else RunShapes(protocol.batch, None)
