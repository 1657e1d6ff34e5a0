"""What models are fed with while they are timed: the same values under every runtime."""

from typing import Any, List, NamedTuple, Sequence

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.base import concrete_shape

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_SEED = 0


class Input(NamedTuple):
    """`dtype` as numpy names it; sizes of `shape` that are no positive numbers are open."""

    name: str
    dtype: str
    shape: Sequence[Any]


def random_arrays(inputs: Sequence[Input], batch: int) -> List[Any]:
    """Return seeded arrays for the inputs: normal where they are floats, 0 and 1 elsewhere.

    MeasurementFailed for a batch that the model does not take, and for a type that cannot be made.
    """
    import numpy

    generator = numpy.random.RandomState(_SEED)
    arrays = []
    for one in inputs:
        if one.dtype not in DTYPES:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"input {one.name!r} is a {one.dtype}; inputs are made for {', '.join(DTYPES)}",
            )
        shape = concrete_shape(one.name, one.shape, batch)
        floating = one.dtype.startswith("float")
        values = generator.standard_normal(shape) if floating else generator.randint(0, 2, shape)
        arrays.append(numpy.ascontiguousarray(numpy.asarray(values).astype(one.dtype)))
    return arrays
