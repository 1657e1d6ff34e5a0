"""The data sets that ship with vitsearch, by the names of their sources."""

from __future__ import annotations

from vitsearch.core.image_size import ImageSize
from vitsearch.data import fashion_mnist, fashion_mosaic
from vitsearch.data.fashion_mnist import load_fashion_mnist
from vitsearch.data.fashion_mosaic import load_fashion_mosaic
from vitsearch.data.image_data import ImageData
from vitsearch.data.spec import DataSpec

PREFIX = "builtin:"
BUILTIN_SIZES = {
    "builtin:fashion-mnist-14k": (12_000, fashion_mnist.SIZE),
    "builtin:fashion-mnist": (60_000, fashion_mnist.SIZE),
    "builtin:fashion-mosaic": (
        fashion_mosaic.COUNTS["train"] + fashion_mosaic.COUNTS["validation"],
        ImageSize.square(fashion_mosaic.SIDE * fashion_mosaic.ACROSS),
    ),
}
"""Training and validation images of each set, and their size."""
_LOADERS = {"fashion-mosaic": load_fashion_mosaic}


def is_builtin(source: str) -> bool:
    return source.startswith(PREFIX)


def load_builtin(spec: DataSpec) -> ImageData:
    """Load a built-in set; `DataError` for a key that it has no use for."""
    return _LOADERS.get(spec.source.removeprefix(PREFIX), load_fashion_mnist)(spec)
