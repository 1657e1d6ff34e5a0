"""The files of a folder of images that are not used, and why."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from vitsearch.core.data_sources import group_column
from vitsearch.data.folders.reader import FolderSurvey
from vitsearch.data.folders.scan import SUFFIXES
from vitsearch.data.problems import some

OTHER_ENDING = f"whose names do not end in {', '.join(SUFFIXES)}"


def skipped_files(survey: FolderSurvey, group: str | None = None) -> list[str]:
    """One line for each reason, with the number of files and the first ones. The file of the `group`s is used."""
    root, folders = survey.root, survey.folders.all
    column = group_column(group or "")
    of_groups = None if column is None else root / column[0]
    by_reason: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        for path in _files(folder):
            why = _why_skipped(path.relative_to(folder), survey.is_labelled)
            if why is not None and path != of_groups:
                by_reason[why].append(str(path.relative_to(root)))
    if root not in folders:
        used = {folder.relative_to(root).parts[0] for folder in folders}
        for entry in sorted(root.iterdir()):
            if entry.name not in used and entry != of_groups:
                by_reason["beside the folders of the splits"].append(entry.name + ("/" if entry.is_dir() else ""))
    return skipped_lines(str(root), by_reason)


def skipped_lines(where: str, by_reason: dict[str, list[str]]) -> list[str]:
    """`by_reason` maps a reason to names."""
    return [f"{where}: {len(names)} skipped, {why}: {some(names)}" for why, names in by_reason.items()]


def _files(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder, followlinks=True):  # links in a circle are refused before
        folders.sort()
        yield from (Path(inside, name) for name in sorted(names))


def _why_skipped(path: Path, is_labelled: bool) -> str | None:
    if any(part.startswith(".") for part in path.parts):
        return "hidden"
    if len(path.parts) == 1 and is_labelled:
        return "not in the folder of a class"
    return None if path.suffix.lower() in SUFFIXES else OTHER_ENDING
