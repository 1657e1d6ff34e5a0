"""A bundle on disk: a folder, and a zip of it beside it. Each is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vitsearch.errors import BundleError, StoreError
from vitsearch.ship.contents import File
from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.verify import bundle

WHEN = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, so that equal bundles are equal bytes."""
PART = ".part"


def write(name: str, files: Mapping[str, File], folder: Path) -> Path:
    """Write a bundle to ``folder``, in the place of an earlier one, and return the zip beside it, which unpacks to a
    folder called ``name``.

    Both are written under other names and renamed, so that a killed process leaves no part of a bundle under its name.
    Raises :class:`BundleError` where there is anything but an intact bundle of this name or where the process works,
    and :class:`StoreError` where nothing can be written.
    """
    folder = Path(os.path.abspath(folder))
    archive = _archive(folder)
    new, new_archive = _part(folder), _part(archive)
    try:
        refuse(folder, name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove(new)
        _write_folder(files, new)
        _write_zip(files, name, new_archive)
        _replace(folder, new)
        os.replace(new_archive, archive)
    except OSError as error:
        raise StoreError(f"the bundle cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # what cannot be written cannot be removed either
            _remove(new)
            new_archive.unlink(missing_ok=True)
    return archive


def refuse(folder: Path, name: str | None = None) -> None:
    """Raise :class:`BundleError` where no bundle can be written to ``folder``, as far as that is known before it is
    made; ``name`` None where that depends on how its model turns out."""
    folder = Path(os.path.abspath(folder))
    if Path.cwd().is_relative_to(folder):
        raise BundleError(f"{folder} would be replaced by the bundle: name a folder inside it with --to")
    for path in (folder, _archive(folder)):
        if path.exists() and not _is_empty(path) and (obstacle := _obstacle(path, name)) is not None:
            raise BundleError(f"{path} exists and {obstacle}: name another folder with --to")


def _archive(folder: Path) -> Path:
    return folder.with_name(folder.name + ".zip")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}{PART}")


def _obstacle(path: Path, name: str | None) -> str | None:
    """Why a folder or zip must not be replaced by the bundle called ``name`` (None: by any bundle); None for an earlier
    one of that name with nothing in it but what we wrote."""
    try:
        with bundle.opened(str(path)) as folder:
            _, wrong = bundle.damaged(folder)
            found = json.loads((Path(folder) / bundle.MANIFEST).read_bytes())["name"]
    except (EvaluatorError, OSError, ValueError, KeyError, TypeError):
        return "is not a bundle"
    if name is not None and found != name:
        return f"is another bundle, {found}"
    return f"is not as it was shipped ({'; '.join(wrong)})" if wrong else None


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _write_folder(files: Mapping[str, File], folder: Path) -> None:
    for name, content in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream)
            stream.flush()
            os.fsync(stream.fileno())


def _write_zip(files: Mapping[str, File], root: str, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{root}/{name}", WHEN)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())


def _replace(folder: Path, new: Path) -> None:
    """Rename ``new`` to ``folder``. An earlier bundle there is moved away first, as a folder with files cannot be
    replaced in one step."""
    old = folder.with_name(f".{folder.name}.old")
    _remove(old)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _remove(old)
