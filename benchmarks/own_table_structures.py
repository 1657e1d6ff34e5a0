"""What cuts the plans of our own table: structures and scores of its backbones, as a worker found them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from own_table_plans import chosen


@cache
def structures() -> Mapping[tuple[str, int], tuple[dict[str, Any], dict[str, Any]]]:
    """By backbone and resolution in pixels, the block structure and the scores, both as JSON values."""
    with lzma.open(chosen().file("_structures.json.xz"), "rt") as stream:
        return {(backbone, pixels): (structure, scores) for backbone, pixels, structure, scores in json.load(stream)}


def write_structures(path: Path, rows: Iterable[tuple[str, int, dict[str, Any], dict[str, Any]]]) -> None:
    """`rows`: backbone, resolution in pixels, block structure and scores."""
    text = json.dumps(list(rows), separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
