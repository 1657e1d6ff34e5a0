"""Run a program with few images in `builtin:fashion-mnist-14k`: `python few_images.py ASSET SCRIPT ARGUMENT...`."""

import runpy
import sys
from pathlib import Path

import numpy as np

from vitsearch.data import fashion_mnist

IMAGES = {"train": 320, "validation": 60, "test": 60}


def write(path: Path) -> None:
    """Write the first images of each split into a file that stands in for the committed one."""
    with np.load(fashion_mnist.SUBSET_ASSET) as arrays:
        first = {name: values[: IMAGES[name.partition("_")[0]]] for name, values in arrays.items()}
    np.savez(path, **first)


if __name__ == "__main__":
    _, asset, script, *_ = sys.argv
    fashion_mnist.SUBSET_ASSET = Path(asset)
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
