"""The frozen values that a data set is made of."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.data.arrays import Bytes, Labels


@dataclass(frozen=True, eq=False)
class Split:
    """``images`` uint8 (N, H, W, C), C 1 or 3; ``labels`` int64 (N,), indices into the class names."""

    images: Bytes
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)
