"""Types of the arrays that data and training exchange."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.int64]
Masks: TypeAlias = NDArray[np.uint8]
Truths: TypeAlias = Labels | Masks
"""Classes of images (n,), or masks (n, height, width)."""
Floats: TypeAlias = NDArray[np.float32]
