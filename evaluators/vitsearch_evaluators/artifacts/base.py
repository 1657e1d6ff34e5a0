"""The result and the error that the checks of all kinds share."""

from typing import Mapping, NamedTuple, Optional

from vitsearch_evaluators.errors import MeasurementFailed


class Facts(NamedTuple):
    """What a model needs from a runtime. `ir_version` and `opsets` (domain -> version) exist only for ONNX."""

    kind: str
    ir_version: Optional[int] = None
    opsets: Mapping[str, int] = {}


def refusal(message: str) -> MeasurementFailed:
    """Return the error for a file that no runtime may get."""
    return MeasurementFailed("incompatible_artifact", message)
