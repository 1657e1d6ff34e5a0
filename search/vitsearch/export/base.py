"""What an exporter must offer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ExportReport:
    """``parity`` is the largest difference to torch relative to the largest logit, in fp32."""

    parity: float
    opset: int
    nodes: int


class Exporter(Protocol):
    """Guarantees: the file is whole and checked, takes any batch, and agrees with torch in fp32."""

    def export(self, model: nn.Module, shape: tuple[int, ...], path: Path, opset: int) -> ExportReport:
        """``shape`` is (1, C, H, W). :class:`StageError` when file and model differ."""
        ...
