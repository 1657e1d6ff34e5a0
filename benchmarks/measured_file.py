"""One model file, measured as the agent measures it, without a server."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from vitsearch.export.device_jobs import DeviceJob
from vitsearch_agent.artifacts import model_files
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.conditions.environment import environment_id, fingerprint
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.protocol import BlobRef, JobSpec


def measure_file(
    path: Path,
    job: DeviceJob,
    protocol: MeasureProtocol,
    store: ReferenceStore | None = None,
    parents: WarmParents | None = None,
) -> Measurement:
    """Measure a model file.

    Args:
        path: The file; those that belong to it lie beside it.
        job: What runs it, and how.
        protocol: How it is measured.
        store: The times of the reference models, which are added to.
        parents: Where the processes after the first are forked; all are started where it is None.

    Returns:
        The measurement, as an agent sends it.
    """
    files = model_files(str(path))
    blobs = tuple(BlobRef(name, file_digest(file), os.path.getsize(file)) for name, file in files.items())
    spec = JobSpec("measure", blobs, job.runtime, job.options, protocol)
    context = JobContext("0" * 64, "local", environment_id(fingerprint("benchmark", (), THIS_MACHINE)), 1, 0.0)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(StopSignal()) as stop:
        for name, file in files.items():
            os.symlink(file, Path(folder) / name)
        return measure_job(spec, context, JobFolder(folder, stop, parents=parents), references=store)
