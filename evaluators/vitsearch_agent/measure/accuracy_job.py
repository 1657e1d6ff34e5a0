"""Accuracy jobs: one child classifies the subset, the agent computes the result from its report and logits."""

import math
import os
import stat
from typing import Any, Callable, Dict, Tuple

from vitsearch_agent.base.normal import Z_95
from vitsearch_agent.base.plain_files import clear
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child.accuracy import IMAGES, LABELS, LOGITS, AccuracyReport
from vitsearch_agent.measure.child_process import stored_answer
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder, answer_file_name, parse_report
from vitsearch_agent.wire.job_spec import JobSpec
from vitsearch_agent.wire.results import NO_CLASS, AccuracyResult

_PHASE = "accuracy"


def measure_accuracy(
    spec: JobSpec, context: JobContext, job_folder: JobFolder, keep: Callable[[str], str]
) -> AccuracyResult:
    """Measure the accuracy of the model on the subset in the job's folder.

    `keep` stores the file of the logits and returns its digest. Raises what `run_child` raises.
    """
    started = context.start()
    report = parse_report(_answer(spec, context.environment_id, job_folder), AccuracyReport.from_json)
    logits = os.path.join(job_folder.folder, LOGITS)
    size = _size(logits)
    if size != report.n * report.classes * 4:
        raise MeasurementFailed("protocol", f"{size} bytes of logits for {report.n} x {report.classes}")
    _check_counts(report)
    low, high = wilson(report.correct, report.n)
    blobs = {blob.name: blob.sha256 for blob in spec.manifest}
    return AccuracyResult(
        artifact=spec.artifact,
        images=blobs[IMAGES],
        labels=blobs[LABELS],
        runtime=spec.runtime,
        ci95_low=low,
        ci95_high=high,
        logits_sha256=keep(logits),
        **started.fields(),
        **report._asdict(),
    )


def _size(logits: str) -> int:
    """The size of the file of the logits; MeasurementFailed for what a hostile model may leave there, such as a link to
    a file that it may not read."""
    try:
        status = os.lstat(logits)
    except OSError as error:
        raise MeasurementFailed("protocol", f"the logits cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise MeasurementFailed("protocol", "the logits are not in a regular file")
    return status.st_size


def _answer(spec: JobSpec, environment_id: str, job_folder: JobFolder) -> Dict[str, Any]:
    """Return the child's answer: that of an earlier attempt in this environment, otherwise of a new child."""
    name = answer_file_name(environment_id, _PHASE)
    path = os.path.join(job_folder.folder, name)
    stored = stored_answer(path)
    if stored is not None and os.path.exists(os.path.join(job_folder.folder, LOGITS)):
        return stored
    clear(path)  # its logits were already stored when the agent died, so the answer alone is useless
    job = {
        "kind": spec.kind,
        "runtime": spec.runtime,
        "options": dict(spec.options),
        "protocol": spec.protocol.to_json(),
        "model": spec.model_name,
        "answer": name,
    }
    return job_folder.run(_PHASE, job, spec.protocol.timeout_s)


def _check_counts(report: AccuracyReport) -> None:
    """Refuse counts that do not fit each other: a measuring child may be a hostile model's."""
    cells = report.confusion
    of_all = sum(count for _, _, count in cells)
    correct = sum(count for label, predicted, count in cells if label == predicted)
    not_finite = sum(count for _, predicted, count in cells if predicted == NO_CLASS)
    in_range = all(label < report.classes and predicted < report.classes for label, predicted, _ in cells)
    is_sorted = all(cell[:2] < next_cell[:2] for cell, next_cell in zip(cells, cells[1:]))
    if not in_range or not is_sorted or (of_all, correct, not_finite) != (report.n, report.correct, report.not_finite):
        raise MeasurementFailed(
            "protocol", f"counts of {of_all} images, {correct} correct, for {report.n} and {report.correct}"
        )


def wilson(correct: int, n: int) -> Tuple[float, float]:
    """Return the 95 % confidence interval of the share `correct / n` (Wilson 1927)."""
    share, spread = correct / n, Z_95 * Z_95 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # A share of 0 or 1 is exactly the end of its interval; rounding must not change that.
    return 0.0 if correct == 0 else middle - half, 1.0 if correct == n else middle + half
