"""What came of exporting a backbone at every precision (`vitsearch.workers.backbone_check`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitsearch.core.image_size import ImageSize


@dataclass(frozen=True)
class FileCheck:
    """One file. With a reason the figures are None."""

    runtime: str
    """The runtime that it is for."""
    precision: str
    """Its precision."""
    quantized_ops: str | None = None
    """The layers that its int8 covers, where there is a choice."""
    is_refused: bool = False
    """Whether it is refused instead of tried."""
    reason: str | None = None
    """Why it is refused, or does not work."""
    difference: float | None = None
    """The largest difference between its logits and those of torch in fp32 (of a model that trains for its precision:
    those of the model that rounds), over the largest logit."""
    size_mb: float | None = None
    """Its size."""
    latency_ms: float | None = None
    """The median wall time of a run with one image and one thread on this machine, if its runtime runs here."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Share of its MACs in each precision."""


@dataclass(frozen=True)
class BackboneCheck:
    """A backbone with its files."""

    backbone: str
    """The backbone."""
    family: str
    """Its family."""
    resolution: ImageSize
    """Of its images: the side of a square, or height and width, in pixels."""
    params_m: float | None
    """Million parameters."""
    macs_m: float | None
    """Million MACs."""
    reason: str | None
    """Why it is refused, or cannot be built or exported at all; then there are no files."""
    files: tuple[FileCheck, ...]
    """Each runtime, precision and quantized_ops."""
    works: bool = field(init=False, default=False)
    """Whether every file works that is not refused."""

    def __post_init__(self) -> None:
        works = self.reason is None and all(file.is_refused or file.reason is None for file in self.files)
        object.__setattr__(self, "works", works)
