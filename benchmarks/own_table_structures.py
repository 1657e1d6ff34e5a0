"""The block structures and scores of the table's backbones, so that a replay cuts plans as a run does.

python benchmarks/own_table_structures.py FILE       make them, as a worker does (a minute)
"""

from __future__ import annotations

import argparse
import json
import lzma
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

STRUCTURES = Path(__file__).with_name("own_table_structures.json.xz")


@cache
def structures(path: Path = STRUCTURES) -> Mapping[tuple[str, int], tuple[dict[str, Any], dict[str, Any]]]:
    """By backbone and resolution in pixels, the block structure and the scores, both as JSON values."""
    with lzma.open(path, "rt") as stream:
        return {(backbone, pixels): (structure, scores) for backbone, pixels, structure, scores in json.load(stream)}


def write(path: Path) -> None:
    from own_table import Builder  # it imports torch

    with tempfile.TemporaryDirectory() as folder:
        rows = [
            [source.backbone, source.resolution.height, structure.to_json(), scores.to_json()]
            for source, (structure, scores, _) in Builder(Path(folder)).structures.items()
        ]
    path.write_bytes(lzma.compress(json.dumps(rows, separators=(",", ":")).encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    write(parser.parse_args().file)
