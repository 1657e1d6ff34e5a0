"""A job on this machine without an agent: as the agent runs it, but without a server and a queue."""

import contextlib
import os
import tempfile
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional

from vitsearch_agent import __version__, artifacts
from vitsearch_agent.base import locks, processes
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.plain_files import remove_tree
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.conditions.environment import environment_id, fingerprint
from vitsearch_agent.config import RUNTIME_DEFAULT, RuntimeConfig
from vitsearch_agent.measure.child_checks import check_runtime
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import Isolation, JobFolder
from vitsearch_agent.measure.launch import Launch
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.wire.job_spec import BlobRef, JobSpec, job_id
from vitsearch_agent.wire.measure_protocol import MeasureProtocol

_DEVICE = "local"


class Request(NamedTuple):
    """How to run a model; `programs` is the runtime's section of a device's configuration. With `isolation` None the
    model has the rights of this user. `reduction` is that of an outputs job."""

    runtime: str
    options: Mapping[str, Any]
    protocol: MeasureProtocol
    programs: RuntimeConfig = RUNTIME_DEFAULT
    isolation: Optional[Isolation] = None
    reduction: Optional[str] = None


class JobListener(NamedTuple):
    """Who hears of the processes of a job, and of others that have to end their measurement first."""

    started: Optional[Callable[[str, processes.ProcessId], None]] = None
    waiting: Callable[[locks.Holder], None] = lambda holder: None


class LocalJob(NamedTuple):
    """A job in its folder. `environment` is the fingerprint of this machine."""

    spec: JobSpec
    context: JobContext
    folder: JobFolder
    environment: Mapping[str, Any]


@contextlib.contextmanager
def _own_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="vitsearch-")
    try:
        yield folder
    finally:
        remove_tree(folder)


@contextlib.contextmanager
def local_job(
    kind: str,
    files: Mapping[str, str],
    request: Request,
    listener: JobListener = JobListener(),  # noqa: B008 - immutable
) -> Iterator[LocalJob]:
    """Yield a job of `kind` on `files` (its names in a job -> paths), while nothing else measures on this machine.

    Raises MeasurementFailed if the runtime is missing or cannot run the model.
    """
    blobs = tuple(BlobRef(name, file_digest(file), os.path.getsize(file)) for name, file in files.items())
    spec = JobSpec(kind, blobs, request.runtime, request.options, request.protocol, 0, request.reduction)
    model = {blob.name: files[blob.name] for blob in spec.model}
    processes.adopt_orphans()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(contextlib.closing(StopSignal()))
        parents = stack.enter_context(contextlib.closing(WarmParents()))
        folder = stack.enter_context(_own_folder())
        checking = JobFolder(folder, stop, isolation=request.isolation, parents=parents)
        info = check_runtime(request.runtime, checking, request.programs)
        artifacts.refuse_incompatible(spec.artifact_kind, model, info)
        environment = fingerprint(__version__, (info,), THIS_MACHINE)
        slowdown = None if environment["emulation"] is None else 1.0
        context = JobContext(
            job_id(spec, _DEVICE), _DEVICE, environment_id(environment), 1, 0.0, slowdown, info.version
        )
        for name, file in files.items():
            os.symlink(os.path.abspath(file), os.path.join(folder, name))
        launch = Launch.of(info, os.path.join(folder, "cache")).allowing(request.programs)
        job_folder = checking._replace(on_start=listener.started, launch=launch)
        work = os.path.basename(files[spec.model_name])
        with locks.measuring_alone(locks.measuring_lock_path(), work, on_wait=listener.waiting):
            yield LocalJob(spec, context, job_folder, environment)
