"""What the checks of all kinds share."""

from typing import Mapping, NamedTuple, Optional

from vitsearch_evaluators.errors import MeasurementFailed


class Facts(NamedTuple):
    """What a model asks of a runtime. `ir_version` and `opsets` (domain -> version) are those of ONNX."""

    kind: str
    ir_version: Optional[int] = None
    opsets: Mapping[str, int] = {}


def refusal(message: str) -> MeasurementFailed:
    """Return the error of a file that no runtime is given."""
    return MeasurementFailed("incompatible_artifact", message)
