"""The child of an outputs job: run every image through the model once, untimed, and keep the reduced outputs.

The child writes them to their own file next to the answer and says what they are; the agent checks both. The agent
reads the names below too, so only the functions of the child import numpy.
"""

from typing import Any, BinaryIO, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader, npy
from vitsearch_agent.base.atomic_files import replacing
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child.measured_model import MeasuredModel
from vitsearch_agent.runtimes.base import Session
from vitsearch_agent.wire.job_spec import IMAGES_NAME
from vitsearch_agent.wire.measure_protocol import Shapes, read_shapes
from vitsearch_agent.wire.reductions import REDUCTIONS, Reduction
from vitsearch_agent.wire.results import DIMENSIONS_MAX, OUTPUTS_MAX_BYTES, bytes_of, read_item_shape

OUTPUTS = "outputs.bin"


class OutputsReport(NamedTuple):
    """The fields of OutputsResult that the child knows; the file OUTPUTS holds what they describe."""

    n: int
    item_shape: Tuple[int, ...]
    not_finite: int
    runtime_version: str
    options: Mapping[str, Any]
    batch: int
    shapes: Optional[Shapes]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), options=dict(self.options), item_shape=list(self.item_shape))

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "OutputsReport":
        return cls(**json_reader.read_object(value, _REPORT, where))


_REPORT: Mapping[str, json_reader.Reader] = {
    "n": json_reader.integer(1),
    "item_shape": read_item_shape,
    "not_finite": json_reader.integer(),
    "runtime_version": json_reader.text,
    "options": json_reader.mapping(),
    "batch": json_reader.integer(1),
    "shapes": json_reader.optional(read_shapes),
}


def run_images(measured: MeasuredModel, name: str) -> OutputsReport:
    """Run the images in this folder and keep of the outputs what the reduction called `name` keeps.

    MeasurementFailed when model, images and reduction do not fit together.
    """
    header, reduction = _images(), REDUCTIONS[name]
    session = measured.load()
    batch, n = session.batch, header.shape[0]
    shape: Optional[Tuple[int, ...]] = None
    not_finite = 0
    with open(IMAGES_NAME, "rb") as images, replacing(OUTPUTS) as stream:
        images.seek(header.offset)
        for start in range(0, n, batch):
            outputs = _outputs(session, _next(images, header, min(batch, n - start)), batch)
            if shape is None:
                shape = outputs.shape[1:]
                _check_shape(n, shape, name)
            elif outputs.shape[1:] != shape:
                lists = list(shape), list(outputs.shape[1:])
                raise MeasurementFailed("protocol", "the model returned outputs of shape {}, then {}".format(*lists))
            kept, count = _reduced(outputs, reduction)
            not_finite += count
            stream.write(kept.tobytes())
    assert shape is not None
    item_shape = reduction.item_shape(shape)
    return OutputsReport(n, item_shape, not_finite, measured.version, measured.options, batch, session.shapes)


def _images() -> npy.Header:
    try:
        return npy.check_images(IMAGES_NAME)
    except InvalidRequest as error:
        raise MeasurementFailed("incompatible_artifact", str(error)) from error


def _next(stream: BinaryIO, header: npy.Header, count: int) -> Any:
    """Read the next `count` images; all of them may not fit in the device's memory."""
    import numpy

    shape = (count, *header.shape[1:])
    return numpy.fromfile(stream, header.dtype, int(numpy.prod(shape))).reshape(shape)


def _outputs(session: Session, images: Any, batch: int) -> Any:
    """Return the float32 outputs of up to `batch` images: (images, ...).

    The last batch is padded, because a model with a fixed batch size accepts only full batches.
    """
    import numpy

    missing = batch - len(images)
    padded = numpy.concatenate([images, numpy.repeat(images[-1:], missing, axis=0)]) if missing else images
    outputs = numpy.asarray(session.infer(padded))
    if not outputs.ndim or len(outputs) != batch or not outputs.size or outputs.dtype.kind != "f":
        raise MeasurementFailed(
            "incompatible_artifact",
            f"expected real numbers for each of {batch} images, got {outputs.dtype} of shape {list(outputs.shape)}",
        )
    return numpy.ascontiguousarray(outputs[: len(images)], dtype="<f4")


def _reduced(outputs: Any, reduction: Reduction) -> Tuple[Any, int]:
    """Return what is kept of outputs, and the number of images with an output that is not finite."""
    import numpy

    finite = numpy.isfinite(outputs)
    not_finite = len(outputs) - int(finite.reshape(len(outputs), -1).all(axis=1).sum())
    if reduction.classes_max is None:
        return outputs, not_finite
    kept: Any = numpy.where(finite.all(axis=1), outputs.argmax(axis=1), reduction.reserved)
    return kept.astype(reduction.dtype), not_finite


def _check_shape(n: int, shape: Tuple[int, ...], name: str) -> None:
    """Refuse outputs, of `shape` for one image, that the reduction cannot keep, and too many of them."""
    reduction = REDUCTIONS[name]
    if reduction.classes_max is not None:
        if not shape:
            raise MeasurementFailed("incompatible_artifact", f"{name} needs classes, the model gives one number")
        if shape[0] > reduction.classes_max:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"{name} has room for {reduction.classes_max} classes, the model has {shape[0]}",
            )
    if len(reduction.item_shape(shape)) > DIMENSIONS_MAX:
        raise MeasurementFailed(
            "incompatible_artifact", f"the outputs of one image have the shape {list(shape)}: too many axes"
        )
    size = bytes_of((n,) + reduction.item_shape(shape), reduction.itemsize)
    if size > OUTPUTS_MAX_BYTES:
        raise MeasurementFailed(
            "incompatible_artifact",
            f"the outputs would take {size} bytes, allowed are {OUTPUTS_MAX_BYTES}: send fewer images",
        )
