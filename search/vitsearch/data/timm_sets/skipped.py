"""The members of a timm data set that its reader skips without a word, as far as the source can be listed."""

from __future__ import annotations

import tarfile
from collections import defaultdict
from pathlib import Path

from vitsearch.core.data_sources import kind_of
from vitsearch.data.folders.skipped import skipped_lines
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.splits import split_names

NESTED = ".tar"


def skipped_samples(spec: DataSpec) -> list[str]:
    """One line for each reason, with the number of files and the first ones.

    Of tar files and of folders that torchvision reads, the names without an image's ending. Columns and shards have
    nothing to skip: a sample there that cannot be read is a problem.
    """
    kind, name = kind_of(spec.source), spec.source.partition("/")[2]
    if kind != "tar" and name not in ("folder", "image_folder"):
        return []
    root, splits = Path(spec.root or "").expanduser(), split_names(spec)
    by_reason: dict[str, list[str]] = defaultdict(list)
    for split in (splits.train, splits.validation):
        if split is None:
            continue
        where, endings = root / split, _endings(kind)
        for member in _members(where) if kind == "tar" else _files(where):
            if not member.lower().endswith(endings):
                by_reason[f"whose names do not end in {', '.join(endings)}"].append(f"{split}/{member}".lstrip("/"))
    return skipped_lines(spec.source, by_reason)


def _endings(kind: str) -> tuple[str, ...]:
    """The endings that the reader takes for images."""
    if kind == "tar":
        from timm.data.readers import get_img_extensions  # here: timm loads torch

        return (*get_img_extensions(), NESTED)
    from torchvision.datasets.folder import IMG_EXTENSIONS  # here: torchvision loads torch

    return tuple(IMG_EXTENSIONS)


def _members(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [member.name for member in archive if member.isfile()]


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
