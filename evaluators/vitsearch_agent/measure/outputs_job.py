"""Outputs jobs: one child runs the images, the agent checks what it left and cuts it into parts."""

import array
import contextlib
import os
import sys
from typing import BinaryIO, Callable, FrozenSet, List, Tuple

from vitsearch_agent.base import npy
from vitsearch_agent.base.plain_files import create_plain, open_plain
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child.outputs import OUTPUTS, OutputsReport
from vitsearch_agent.measure.expected_sizes import expected_sizes
from vitsearch_agent.measure.figures.plausibility import of_sizes
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder, answer_file_name, parse_report
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.job_spec import IMAGES_NAME, JobSpec
from vitsearch_agent.wire.reductions import REDUCTIONS, Reduction
from vitsearch_agent.wire.results import OutputsResult, Part, bytes_of, part_sizes

Keep = Callable[[str, FrozenSet[str]], str]
"""Takes a file into what stores the outputs, beside those with the digests, and returns its digest."""

_PHASE = "outputs"
_PART = "part.bin"


def measure_outputs(spec: JobSpec, context: JobContext, job_folder: JobFolder, keep: Keep) -> OutputsResult:
    """Run the model on the images in the job's folder. `keep` stores each part of its outputs.

    Raises what `run_child` raises, and MeasurementFailed `incompatible_artifact` for images that are none.
    """
    assert spec.reduction is not None
    started = context.of_job(spec).start()
    sizes = expected_sizes(spec, job_folder.folder)
    n = _images(os.path.join(job_folder.folder, IMAGES_NAME))  # before the child runs, which could change the file
    report = _report(spec, context.environment_id, job_folder)
    problem = of_sizes(RunShapes(report.batch, report.shapes), sizes)
    if problem is not None:
        raise MeasurementFailed("protocol", f"the outputs process reported what cannot be: {problem}")
    context.refuse_version(spec.runtime, report.runtime_version)
    reduction = REDUCTIONS[spec.reduction]
    if report.n != n or report.not_finite > n:
        raise MeasurementFailed(
            "protocol", f"outputs of {report.n} images, {report.not_finite} of them not finite, for {n} images"
        )
    return OutputsResult(
        artifact=spec.artifact,
        images=next(blob.sha256 for blob in spec.manifest if blob.name == IMAGES_NAME),
        runtime=spec.runtime,
        reduction=spec.reduction,
        dtype=reduction.dtype,
        parts=_parts(job_folder.folder, report, reduction, keep),
        **started.fields(),
        **report._asdict(),
    )


def _images(path: str) -> int:
    """Return the number of images in a file."""
    try:
        return npy.check_images(path).shape[0]
    except (InvalidRequest, OSError) as error:
        raise MeasurementFailed("incompatible_artifact", str(error)) from error


def _report(spec: JobSpec, environment_id: str, job_folder: JobFolder) -> OutputsReport:
    """Return the child's report: that of an earlier attempt in this environment, otherwise of a new child."""
    name = answer_file_name(environment_id, _PHASE)
    if os.path.lexists(os.path.join(job_folder.folder, OUTPUTS)):
        with contextlib.suppress(MeasurementFailed):  # missing or damaged
            return parse_report(job_folder.record(name), OutputsReport.from_json)
    job = {
        "kind": spec.kind,
        "runtime": spec.runtime,
        "options": dict(spec.options),
        "protocol": spec.protocol.to_json(),
        "model": spec.model_name,
        "reduction": spec.reduction,
        "answer": name,
    }
    answer = job_folder.run(_PHASE, job, spec.protocol.timeout_s)
    report = parse_report(answer, OutputsReport.from_json)
    job_folder.keep(name, answer)
    return report


def _parts(folder: str, report: OutputsReport, reduction: Reduction, keep: Keep) -> Tuple[Part, ...]:
    """Check the file of the outputs and store its parts.

    A measuring child may be a hostile model's, which leaves there what it likes: a link to a file that it may not
    read, a FIFO, more or less than it reports.
    """
    try:
        stream = open_plain(os.path.join(folder, OUTPUTS))
    except OSError as error:
        raise MeasurementFailed("protocol", f"the outputs cannot be read: {error.strerror}") from error
    with stream:
        sizes = _sizes(report, reduction)
        actual = os.fstat(stream.fileno()).st_size
        if actual != sum(sizes):
            shape = [report.n, *report.item_shape]
            raise MeasurementFailed("protocol", f"{actual} bytes of outputs for {reduction.dtype} of shape {shape}")
        if reduction.reserved is not None:
            _check_reserved(stream, report, reduction)
        stream.seek(0)
        parts: List[Part] = []
        for size in sizes:
            path = os.path.join(folder, _PART)
            with create_plain(path) as part:
                part.write(stream.read(size))
            parts.append(Part(keep(path, frozenset(part.sha256 for part in parts)), size))
        return tuple(parts)


def _sizes(report: OutputsReport, reduction: Reduction) -> List[int]:
    try:
        return part_sizes(bytes_of((report.n,) + report.item_shape, reduction.itemsize))
    except InvalidRequest as error:
        raise MeasurementFailed("protocol", str(error)) from error


def _check_reserved(stream: BinaryIO, report: OutputsReport, reduction: Reduction) -> None:
    """Refuse a count of images that are not finite which is not that of the images with the reserved value."""
    size = bytes_of(report.item_shape, reduction.itemsize)
    if report.item_shape:
        actual = sum(any(_reserved(stream, size, reduction)) for _ in range(report.n))
    else:
        actual = sum(_reserved(stream, size * report.n, reduction))
    if actual != report.not_finite:
        raise MeasurementFailed("protocol", f"{report.not_finite} images are reported as not finite, {actual} are")


def _reserved(stream: BinaryIO, size: int, reduction: Reduction) -> List[int]:
    """Return how often the reserved value is in each piece of the next `size` bytes."""
    assert reduction.reserved is not None
    counts = []
    for length in part_sizes(size):
        numbers = array.array("BH"[reduction.itemsize - 1], stream.read(length))
        if reduction.itemsize > 1 and sys.byteorder == "big":
            numbers.byteswap()
        counts.append(numbers.count(reduction.reserved))
    return counts
