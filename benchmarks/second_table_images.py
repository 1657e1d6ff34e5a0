"""Write the images of the second table: emoji as four vendors draw them, one folder for each category.

    python benchmarks/second_table_images.py PACKAGES FOLDER

PACKAGES is a folder with the unpacked npm packages `emoji-datasource-apple`, `-facebook`, `-google` and `-twitter` of
version 16.0.0, under these names (`npm pack emoji-datasource-google@16.0.0`, then `tar`). The pictures of 64 pixels are
laid on white and written as FOLDER/CATEGORY/CODE_VENDOR.png. Skin tones are left out: they repeat a picture. All
pictures of one emoji have its code in front, which keeps them in one split (`group` in second_table.yaml).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

VENDORS = ("apple", "facebook", "google", "twitter")
LEFT_OUT = {"Component"}
"""Categories that are no pictures of their own: patches of skin tones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    written = sum(write(vendor, options.packages, options.folder) for vendor in VENDORS)
    print(f"{options.folder}: {written} images")


def write(vendor: str, packages: Path, folder: Path) -> int:
    """The number of images of a vendor that were written."""
    package, written = packages / f"emoji-datasource-{vendor}", 0
    for emoji in json.loads((package / "emoji.json").read_text()):
        if not emoji[f"has_img_{vendor}"] or emoji["category"] in LEFT_OUT:
            continue
        with Image.open(package / "img" / vendor / "64" / emoji["image"]) as opened:
            picture = opened.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        into = folder / emoji["category"] / f"{emoji['unified'].lower()}_{vendor}.png"
        into.parent.mkdir(parents=True, exist_ok=True)
        Image.alpha_composite(paper, picture).convert("RGB").save(into)
        written += 1
    return written


if __name__ == "__main__":
    main()
