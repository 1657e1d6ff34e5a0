"""Which data a study uses: what the ``task.data`` part of a space file says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.errors import DataError, did_you_mean

SOURCES = ("builtin:fashion-mnist-14k", "builtin:fashion-mnist", "folder")


@dataclass(frozen=True)
class DataSpec:
    """``root`` is the folder of ``folder`` and, if the set is not in a usual place, of
    ``builtin:fashion-mnist``. ``image_size`` (pixels) and ``channels`` (1 grey, 3 colour) are those
    of the stored images; ``None`` takes them from the data. ``validation_share`` and ``seed`` split a
    folder that has no validation part. Raises :class:`DataError` for values that make no sense."""

    source: str
    root: str | None = None
    image_size: int | None = None
    channels: int | None = None
    validation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise DataError(
                f"data.source: {self.source!r} is unknown{did_you_mean(self.source, SOURCES)}; "
                f"allowed: {', '.join(SOURCES)}"
            )
        if self.source == "folder" and not self.root:
            raise DataError("data.root: missing; source 'folder' needs the folder of the images")
        if self.channels not in (None, 1, 3):
            raise DataError(f"data.channels: {self.channels!r}; allowed: 1 (grey), 3 (colour)")
        if self.image_size is not None and not 8 <= self.image_size <= 4096:
            raise DataError(f"data.image_size: {self.image_size!r}; allowed: 8 to 4096 pixels")
        if not 0.0 < self.validation_share < 1.0:
            raise DataError(f"data.validation_share: {self.validation_share!r}; allowed: above 0 and below 1")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DataSpec:
        return cls(**value)
