"""What an exporter must offer, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vitsearch.models.graph import OPSET

if TYPE_CHECKING:
    from torch import nn

PARITY_LIMIT = 1e-4


@dataclass(frozen=True)
class ExportReport:
    """``parity_max_abs`` is the largest difference between the file's logits and torch's,
    ``parity_rel`` the same over the largest logit; ``seconds_cpu`` of export and check together."""

    parity_max_abs: float
    parity_rel: float
    opset: int
    seconds_cpu: float
    nodes: int
    size_bytes: int

    @property
    def parity(self) -> float:
        """The figure that is recorded and limited: ``parity_rel``."""
        return self.parity_rel


class Exporter(Protocol):
    """Guarantees: the file takes float32 ``images`` (batch, channels, height, width) of any batch and
    gives float32 ``logits`` (batch, classes) that agree with torch; the model is left as it was."""

    def export(self, model: nn.Module, example_shape: tuple[int, ...], path: Path, opset: int = OPSET) -> ExportReport:
        """Write ``model`` to ``path``, for inputs of ``example_shape`` but for the batch.

        :class:`~vitsearch.errors.StageError` ``export`` when it cannot be exported (``crash``), or
        disagrees with torch (``parity``) or gives no numbers (``not_finite``).
        """
        ...
