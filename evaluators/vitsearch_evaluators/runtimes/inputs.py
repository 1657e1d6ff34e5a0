"""The inputs of a model while it is timed: the same values under every runtime.

numpy is imported in the child that runs the model, never in the agent.
"""

from typing import Any, List, NamedTuple, Sequence

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.base import concrete_shape

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_SEED = 0


class Input(NamedTuple):
    """An input of a model; `dtype` is numpy's name. A size in `shape` that is not a positive number is open."""

    name: str
    dtype: str
    shape: Sequence[Any]


def random_arrays(inputs: Sequence[Input], batch: int) -> List[Any]:
    """Return seeded arrays for the inputs: normally distributed floats, or 0 and 1 for other types.

    Raises MeasurementFailed for a batch that the model does not accept and for an unsupported type.
    """
    import numpy

    generator = numpy.random.RandomState(_SEED)
    arrays = []
    for one in inputs:
        if one.dtype not in DTYPES:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"input {one.name!r} has the type {one.dtype}; supported are {', '.join(DTYPES)}",
            )
        shape = concrete_shape(one.name, one.shape, batch)
        floating = one.dtype.startswith("float")
        values = generator.standard_normal(shape) if floating else generator.randint(0, 2, shape)
        arrays.append(numpy.ascontiguousarray(numpy.asarray(values).astype(one.dtype)))
    return arrays
