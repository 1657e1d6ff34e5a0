"""Write the committed subset of Fashion-MNIST: 10,000 training, 2,000 validation, 2,000 test images.

    PYTHONPATH=search:evaluators python tools/make_fashion_mnist_14k.py --source DIR

DIR holds the four official IDX files, gzipped or plain (Debian: package `dataset-fashion-mnist`,
/usr/share/datasets/fashion-mnist). Training and validation images come from the official training set, test images from
the official test set; each split has equally many images of every class. Images whose bytes occur more than once in the
two official sets are left out, so that the splits are disjoint by content too. The same seed gives the same file.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes, Labels, Truths
from vitsearch.data.fashion_mnist import LICENSE_ASSET, SUBSET_ASSET, read_official

SEED = 0
PER_CLASS = {"train": 1000, "validation": 200, "test": 200}


def drawn(labels: Truths, usable: np.ndarray, per_class: int, rng: np.random.Generator) -> Labels:
    """Indices of `per_class` usable images of each class, in shuffled order."""
    picks = [rng.permutation(np.flatnonzero((labels == label) & usable))[:per_class] for label in np.unique(labels)]
    return rng.permutation(np.concatenate(picks)).astype(np.int64)


def occurs_once(train: Bytes, test: Bytes) -> tuple[np.ndarray, np.ndarray]:
    counts = Counter(image.tobytes() for images in (train, test) for image in images)
    once = [np.array([counts[image.tobytes()] == 1 for image in images]) for images in (train, test)]
    return once[0], once[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    source = parser.parse_args().source
    rng = np.random.default_rng(SEED)
    train, test = read_official(source, "train"), read_official(source, "t10k")
    train_once, test_once = occurs_once(train.images, test.images)
    both = drawn(train.labels, train_once, PER_CLASS["train"] + PER_CLASS["validation"], rng)
    first = np.concatenate(
        [both[train.labels[both] == label][: PER_CLASS["validation"]] for label in np.unique(train.labels)]
    )
    validation_index = rng.permutation(first)
    train_index = np.setdiff1d(both, validation_index)
    test_index = drawn(test.labels, test_once, PER_CLASS["test"], rng)
    train_index = rng.permutation(train_index)
    arrays = {}
    for name, split, index in (
        ("train", train, train_index),
        ("validation", train, validation_index),
        ("test", test, test_index),
    ):
        arrays[f"{name}_images"] = split.images[index, :, :, 0]
        arrays[f"{name}_labels"] = split.labels[index].astype(np.uint8)
        arrays[f"{name}_index"] = index.astype(np.uint16)
        print(f"{name}: {len(index)} images")
    np.savez_compressed(SUBSET_ASSET, allow_pickle=False, **arrays)
    print(f"{SUBSET_ASSET.name}: {SUBSET_ASSET.stat().st_size / 1e6:.2f} MB; notice in {LICENSE_ASSET.name}")


if __name__ == "__main__":
    main()
