"""The protocol of exporters, and their report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vitsearch.models.graph import OPSET

if TYPE_CHECKING:
    from torch import nn

PARITY_LIMIT = 1e-4
"""Allowed difference to torch, of the largest logit."""


@dataclass(frozen=True)
class ExportReport:
    """``parity_max_abs`` is the largest difference between the logits of the file and of torch, ``parity_rel`` the same
    over the largest logit; ``seconds_cpu`` covers export and check together."""

    parity_max_abs: float
    parity_rel: float
    opset: int
    seconds_cpu: float
    nodes: int
    size_bytes: int

    @property
    def parity(self) -> float:
        """``parity_rel``, the figure that is recorded and limited."""
        return self.parity_rel


class Exporter(Protocol):
    """Writes a model to a file.

    Guarantees: the file takes float32 ``images`` (batch, channels, height, width) of any batch size and gives float32
    ``logits`` (batch, classes) that agree with torch. The model is not changed.
    """

    def export(self, model: nn.Module, example_shape: tuple[int, ...], path: Path, opset: int = OPSET) -> ExportReport:
        """Write ``model`` to ``path``, for inputs of ``example_shape`` with any batch size.

        :class:`~vitsearch.errors.StageError` ``export`` when the model cannot be exported (``crash``), when the file
        disagrees with torch (``parity``), or when logits are not finite (``not_finite``).
        """
        ...
