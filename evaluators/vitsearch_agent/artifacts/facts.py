"""The result and the error that the checks of all kinds share."""

from typing import Any, Mapping, NamedTuple, Optional, Sequence

from vitsearch_agent.errors import MeasurementFailed


class Facts(NamedTuple):
    """What a model needs from a runtime. `ir_version` and `opsets` (domain -> version) exist only for ONNX."""

    kind: str
    ir_version: Optional[int] = None
    opsets: Mapping[str, int] = {}


class Declared(NamedTuple):
    """An input as a model declares it. A dimension that is not a positive number is open: a name, None or -1.

    `dims` is None if the model does not declare how many dimensions the input has.
    """

    name: str
    dims: Optional[Sequence[Any]]


def refusal(message: str) -> MeasurementFailed:
    """Return the error for a file that no runtime may get."""
    return MeasurementFailed("incompatible_artifact", message)
