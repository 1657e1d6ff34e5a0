"""The child of an accuracy job: run every image of the subset through the model once, untimed.

The child writes the logits to their own file next to the answer and counts its answers. The agent
computes the accuracy and its interval from the counts. The agent reads the names below too, so only
the functions of the child import numpy.
"""

from collections import Counter
from typing import Any, BinaryIO, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader, npy
from vitsearch_agent.base.atomic_files import replacing
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child.measured_model import MeasuredModel
from vitsearch_agent.runtimes.base import Session
from vitsearch_agent.wire.measure_protocol import Shapes, read_shapes
from vitsearch_agent.wire.results import NO_CLASS, Cell, read_confusion

IMAGES, LABELS = "images.npy", "labels.npy"
LOGITS = "logits.f32"
LOGITS_MAX_BYTES = 256 << 20
WRITTEN_AS = "<f4"


class AccuracyReport(NamedTuple):
    """The counts of AccuracyResult; the file LOGITS holds `n` x `classes` numbers."""

    n: int
    correct: int
    not_finite: int
    classes: int
    confusion: Tuple[Cell, ...]
    runtime_version: str
    options: Mapping[str, Any]
    batch: int
    shapes: Optional[Shapes]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), options=dict(self.options), confusion=[list(cell) for cell in self.confusion])

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "AccuracyReport":
        return cls(**json_reader.read_object(value, _REPORT, where))


_REPORT: Mapping[str, json_reader.Reader] = {
    "n": json_reader.integer(1),
    "correct": json_reader.integer(),
    "not_finite": json_reader.integer(),
    "classes": json_reader.integer(1),
    "confusion": read_confusion,
    "runtime_version": json_reader.text,
    "options": json_reader.mapping(),
    "batch": json_reader.integer(1),
    "shapes": json_reader.optional(read_shapes),
}


def classify(measured: MeasuredModel) -> AccuracyReport:
    """Classify the subset in this folder; MeasurementFailed when model and subset do not fit together."""
    header, labels = _subset()
    session = measured.load()
    batch, n = session.batch, len(labels)
    classes = 0
    cells = Counter()  # type: Counter[Tuple[int, int]]
    with open(IMAGES, "rb") as images, replacing(LOGITS) as stream:
        images.seek(header.offset)
        for start in range(0, n, batch):
            logits = _logits(session, _next(images, header, min(batch, n - start)), batch)
            if not classes:
                classes = logits.shape[1]
                _check_labels(labels, classes)
            elif logits.shape[1] != classes:
                raise MeasurementFailed("protocol", f"the model returned {classes} classes, then {logits.shape[1]}")
            cells.update(_answers(logits, labels[start : start + batch]))
            stream.write(logits.tobytes())
    correct = sum(count for (label, predicted), count in cells.items() if label == predicted)
    not_finite = sum(count for (_, predicted), count in cells.items() if predicted == NO_CLASS)
    confusion = tuple((label, predicted, count) for (label, predicted), count in sorted(cells.items()))
    counts = n, correct, not_finite, classes, confusion
    return AccuracyReport(*counts, measured.version, measured.options, session.batch, session.shapes)


def _subset() -> Tuple[npy.Header, Any]:
    """Return the header of the image file, and the labels."""
    import numpy

    try:
        npy.check_subset(IMAGES, LABELS)
        return npy.read_header(IMAGES, "images"), numpy.load(LABELS, allow_pickle=False)
    except (InvalidRequest, ValueError) as error:
        raise MeasurementFailed("incompatible_artifact", f"the validation subset: {error}") from error


def _next(stream: BinaryIO, header: npy.Header, count: int) -> Any:
    """Read the next `count` images; the whole subset may not fit in the device's memory."""
    import numpy

    shape = (count, *header.shape[1:])
    return numpy.fromfile(stream, header.dtype, int(numpy.prod(shape))).reshape(shape)


def _logits(session: Session, images: Any, batch: int) -> Any:
    """Return the float32 logits of up to `batch` images.

    The last batch is padded, because a model with a fixed batch size accepts only full batches.
    """
    import numpy

    missing = batch - len(images)
    padded = numpy.concatenate([images, numpy.repeat(images[-1:], missing, axis=0)]) if missing else images
    logits = numpy.asarray(session.infer(padded))
    if logits.ndim != 2 or len(logits) != batch or logits.shape[1] == 0 or logits.dtype.kind != "f":
        raise MeasurementFailed(
            "incompatible_artifact",
            f"expected logits, {batch} x classes, got {logits.dtype} of shape {list(logits.shape)}",
        )
    return numpy.ascontiguousarray(logits[: len(images)], dtype=WRITTEN_AS)


def _answers(logits: Any, labels: Any) -> Iterator[Tuple[int, int]]:
    """Yield the label of each image and the class that it gets; NO_CLASS where its logits are not all finite."""
    import numpy

    finite = numpy.isfinite(logits).all(axis=1)
    predicted = numpy.where(finite, logits.argmax(axis=1), NO_CLASS)
    return zip(labels.tolist(), predicted.tolist())


def _check_labels(labels: Any, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise MeasurementFailed(
            "incompatible_artifact", f"the labels go from {low} to {high}, the model has {classes} classes"
        )
    size = len(labels) * classes * 4
    if size > LOGITS_MAX_BYTES:
        raise MeasurementFailed(
            "incompatible_artifact",
            f"the logits would take {size} bytes, allowed are {LOGITS_MAX_BYTES}: send fewer images",
        )
