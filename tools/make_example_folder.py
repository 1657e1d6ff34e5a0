"""Write a small folder of images, one folder per class, with problems that real folders have.

    python tools/make_example_folder.py PATH

600 pictures of clothing from the test images of `builtin:fashion-mnist-14k`, 60 of each of 10 classes, enlarged to
sizes from 40 to 80 pixels: JPEG and PNG, grey and on coloured paper. One file is truncated, one is not an image, one
class is empty, and the names of two classes contain a space. The tutorial uses it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vitsearch.data.fashion_mnist import CLASS_NAMES, subset_split

PER_CLASS = 60
PAPERS = ("black", "midnightblue", "darkgreen", "maroon")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    root = parser.parse_args().path
    write_images(root)
    write_problems(root)


def write_images(root: Path) -> None:
    split, rng = subset_split("test"), np.random.default_rng(0)
    for label, name in enumerate(CLASS_NAMES):
        folder = root / name.replace("/", " or ")
        folder.mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(split.labels == label)[:PER_CLASS]):
            size = int(rng.integers(40, 81))
            picture = Image.fromarray(split.images[row, :, :, 0]).resize((size, size))
            if rng.random() < 0.5:
                picture = ImageOps.colorize(picture, black=str(rng.choice(PAPERS)), white="white")
            picture.save(folder / f"{number:03}.{'jpg' if rng.random() < 0.7 else 'png'}")


def write_problems(root: Path) -> None:
    whole = next(iter(sorted(root.glob("*/*.jpg"))))
    (whole.parent / "cut short.jpg").write_bytes(whole.read_bytes()[:400])
    (whole.parent / "page.png").write_text("<html>not found</html>")
    (root / "Hat").mkdir()


if __name__ == "__main__":
    main()
