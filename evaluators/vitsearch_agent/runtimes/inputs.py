"""The inputs of a model while it is timed: the same values under every runtime.

numpy is imported in the child that runs the model, never in the agent.
"""

from typing import Any, List, NamedTuple, Optional, Sequence

from vitsearch_agent.artifacts.facts import Declared
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.shapes import RunShapes, run_shapes
from vitsearch_agent.wire.measure_protocol import Shapes

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_SEED = 0


class Input(NamedTuple):
    """An input of a model: `dtype` is numpy's name, `dims` as in Declared."""

    name: str
    dtype: str
    dims: Optional[Sequence[Any]]


class Feeds(NamedTuple):
    """The arrays of a run, in the order of the inputs, and their shapes."""

    arrays: List[Any]
    sizes: RunShapes


def random_feeds(inputs: Sequence[Input], batch: Optional[int], shapes: Shapes) -> Feeds:
    """Return seeded arrays for the inputs: normally distributed floats, or 0 and 1 for other types.

    Raises MeasurementFailed for a batch or shapes that the model does not accept (see `run_shapes`) and for an
    unsupported type.
    """
    import numpy

    sizes = run_shapes([Declared(declared.name, declared.dims) for declared in inputs], batch, shapes)
    generator = numpy.random.RandomState(_SEED)
    arrays = []
    for declared in inputs:
        if declared.dtype not in DTYPES:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"input {declared.name!r} has the type {declared.dtype}; supported are {', '.join(DTYPES)}",
            )
        floating, shape = declared.dtype.startswith("float"), (sizes.shapes or {})[declared.name]
        try:
            values = generator.standard_normal(shape) if floating else generator.randint(0, 2, shape)
        except (MemoryError, ValueError) as error:  # ValueError: more elements than numpy can count
            message = f"input {declared.name!r} does not fit in memory at the shape {list(shape)}"
            raise MeasurementFailed("out_of_memory", message) from error
        arrays.append(numpy.ascontiguousarray(numpy.asarray(values).astype(declared.dtype)))
    return Feeds(arrays, sizes)
