"""Measures the canary's model: products of matrices as in the reference models, in an ONNX file of some kilobytes.

    image [1, 64, 256] --> (MatMul with a 256 x 256 matrix, Relu) x 8 --> logits [1, 64, 256]

A real amount of work: 34 million multiply-adds, 0.3 ms on a server, some 10 ms on a Raspberry Pi.
"""

import hashlib
import os
import shutil
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence

from vitsearch_agent.base.system import System
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import Isolation, JobFolder
from vitsearch_agent.measure.launch import THIS_PYTHON, Launch
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.measure.memory_limit import NO_MEMORY_LIMIT, MemoryLimit
from vitsearch_agent.runtime_facts import DEFAULT_RUNTIME
from vitsearch_agent.runtimes.reference_models import product_chain
from vitsearch_agent.wire.job_spec import BlobRef, JobSpec, job_id
from vitsearch_agent.wire.measure_protocol import SCREEN
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.paired import Milliseconds

PROTOCOL = SCREEN._replace(id="canary-1", processes=3, max_processes=3)
"""Three processes, so that the interval includes the differences between processes. Takes some eight seconds."""

_ROWS, _WIDTH, _LAYERS = 64, 256, 8


class CanaryModel(NamedTuple):
    """The runtime of the canary, with the file and the options for it."""

    runtime: str
    options: Dict[str, Any]
    content: bytes


def model_for(available: Sequence[str]) -> CanaryModel:
    """Return an ONNX model if the default runtime is available, else a fixed amount of hashing."""
    if DEFAULT_RUNTIME in available:
        return CanaryModel(DEFAULT_RUNTIME, {}, product_chain(_ROWS, _WIDTH, _LAYERS))
    return CanaryModel("noop", {"hash_kib": 512}, b"canary")


class CanaryTimes(NamedTuple):
    """The CPU and wall times of the canary, in ms, with the 95 % intervals of their medians."""

    cpu: Milliseconds
    wall: Milliseconds
    contended: bool

    @classmethod
    def of(cls, measurement: Measurement) -> "CanaryTimes":
        cpu = measurement.shown_cpu_ms
        assert cpu is not None  # all runtimes of the canary count CPU time
        return cls(cpu, measurement.shown_latency_ms, "contended" in measurement.flags)


class CanaryContext(NamedTuple):
    """Where the canary is measured: the folder, which is emptied, the device, the environment, what is known of the
    reference models, the memory limit and the isolation of its children, and the versions of the runtimes."""

    folder: str
    device_id: str
    environment_id: str
    system: System
    references: Optional[ReferenceStore] = None
    memory_limit: MemoryLimit = NO_MEMORY_LIMIT
    isolation: Optional[Isolation] = None
    versions: Mapping[str, Optional[str]] = {}


def measure(
    available: Sequence[str],
    context: CanaryContext,
    stop: StopSignal,
    launch_of: Callable[[str], Launch] = lambda name: THIS_PYTHON,
) -> CanaryTimes:
    """Measure the canary's model like any other, under an available runtime."""
    model = model_for(available)
    blob = BlobRef("model.onnx", hashlib.sha256(model.content).hexdigest(), len(model.content))
    spec = JobSpec("measure", (blob,), model.runtime, model.options, PROTOCOL)
    shutil.rmtree(context.folder, ignore_errors=True)
    os.makedirs(context.folder)
    with open(os.path.join(context.folder, blob.name), "wb") as stream:
        stream.write(model.content)
    conditions = JobContext(
        job_id(spec, context.device_id),
        context.device_id,
        context.environment_id,
        attempts=1,
        queue_s=0.0,
        runtime_version=context.versions.get(model.runtime),
    )
    limit, launch = context.memory_limit, launch_of(model.runtime)
    job_folder = JobFolder(context.folder, stop, None, launch, limit, context.isolation)
    measurement = measure_job(spec, conditions, job_folder, system=context.system, references=context.references)
    return CanaryTimes.of(measurement)
