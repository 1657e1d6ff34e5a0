"""A bundle on disk: a folder, and a zip of it beside it. Each is whole or not there.

A process that writes to `NAME` holds the lock in `.NAME.ship` beside it, a folder of its own that nobody else can
write to. There it makes the new bundle, and there the earlier one goes before it is deleted; what is renamed from there
is complete. What a killed process left there is removed by the next one. No other name is touched, and no link is
followed.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from vitsearch.errors import BundleError, StoreError
from vitsearch.ship.contents import File
from vitsearch_agent.base import locks
from vitsearch_agent.base.printable import printable
from vitsearch_agent.errors import AgentError
from vitsearch_agent.verify import bundle

WHEN = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, so that equal bundles are equal bytes."""
LOCK, NEW, NEW_ZIP, EARLIER = "lock", "bundle", "bundle.zip", "earlier"
"""What a working folder has. A folder with anything else is not ours."""
_OTHER = "name another folder with --to"
_TRIES, _WAIT_S = 50, 0.02
"""Of a working folder that another process is removing just now, or has not signed yet."""


@dataclass(frozen=True)
class BundlePlace:
    """The place of a bundle, to which this process alone writes."""

    folder: Path

    @property
    def archive(self) -> Path:
        """The zip beside the folder."""
        return self.folder.with_name(self.folder.name + ".zip")

    @property
    def work(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.ship")

    def write(self, name: str, files: Mapping[str, File]) -> Path:
        """Write a bundle in the place of an earlier one, and return its zip, which unpacks to a folder called `name`.

        Raises `BundleError` where there is anything but an intact bundle of this name, and `StoreError`
        where nothing can be written.
        """
        plain(name)
        new, new_archive = self.work / NEW, self.work / NEW_ZIP
        try:
            _write_folder(files, new)
            _write_zip(files, name, new_archive)
            self.refuse(name)  # at the last moment: a person may have worked there meanwhile
            self._replace(new)
            os.replace(new_archive, self.archive)
        except OSError as error:
            raise _not_written(self.folder, error) from error
        finally:
            self.clear()
        return self.archive

    def refuse(self, name: str | None = None) -> None:
        """Raise `BundleError` where there is anything but a bundle called `name` (None: any bundle)."""
        for path, is_kind, kind in ((self.folder, stat.S_ISDIR, "folder"), (self.archive, stat.S_ISREG, "file")):
            mode = _mode(path)
            if mode is None:
                continue
            if stat.S_ISLNK(mode):
                raise BundleError(f"{path} is a link, which ship does not follow: name the place itself with --to")
            if not is_kind(mode):
                raise BundleError(f"{path} exists and is not a {kind}: {_OTHER}")
            if not _is_empty(path) and (obstacle := _obstacle(path, name)) is not None:
                raise BundleError(f"{path} exists and {obstacle}: {_OTHER}")

    def _replace(self, new: Path) -> None:
        """Rename `new` to the folder. An earlier bundle there is moved away first, as a folder with files cannot be
        replaced in one step."""
        earlier = self.work / EARLIER
        if _mode(self.folder) is not None:
            os.rename(self.folder, earlier)
        try:
            os.rename(new, self.folder)
        except OSError:
            self._put_back()
            raise

    def _put_back(self) -> None:
        """The earlier bundle, where no new one has taken its place."""
        if _mode(self.work / EARLIER) is not None and _mode(self.folder) is None:
            os.rename(self.work / EARLIER, self.folder)

    def clear(self) -> None:
        """Remove everything but the lock from the working folder; what cannot be removed stays for the next process."""
        with suppress(OSError):
            self._put_back()
            for name in (NEW, EARLIER):
                shutil.rmtree(self.work / name, ignore_errors=True)
            (self.work / NEW_ZIP).unlink(missing_ok=True)


def write(name: str, files: Mapping[str, File], folder: Path) -> Path:
    """Write a bundle to `folder` and return the zip beside it (`Target.write`)."""
    with reserved(folder) as target:
        return target.write(name, files)


def plain(name: str) -> str:
    """The name of a bundle, which comes from a database; `BundleError` where it would lead elsewhere."""
    if "/" in name or name.startswith(".") or not name.isprintable() or not name:
        raise BundleError(f"{printable(name)!r} cannot be the name of a bundle: {_OTHER}")
    return name


@contextmanager
def reserved(folder: Path) -> Iterator[BundlePlace]:
    """Keep other processes from writing a bundle to `folder` for the time of the block.

    Raises `BundleError` where no bundle can be written to it, as far as that is known before the bundle is made,
    or another process is about to, and `StoreError` where the place cannot be written.
    """
    target = BundlePlace(place(folder))
    with ExitStack() as undone:
        try:
            _make_parents(target.folder.parent, undone)
            lock = _locked(target)
        except OSError as error:
            raise _not_written(target.folder, error) from error
        undone.callback(_release, target, lock)
        target.clear()
        target.refuse()  # not before: another process may be replacing an earlier bundle
        yield target


def place(folder: Path) -> Path:
    """The absolute path of a folder for a bundle, with no link among its parents.

    Raises `BundleError` for a name that no folder can have, and for a place where none can be made.
    """
    shown = printable(str(folder))
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in str(folder)):
        raise BundleError(f"--to {shown}: the name of a folder must be text without control characters")
    try:
        path, present = Path(os.path.abspath(folder)), Path.cwd()
    except FileNotFoundError:
        raise BundleError("the folder in which this command runs was removed: go to another one") from None
    target = Path(os.path.realpath(path.parent)) / path.name
    if present.is_relative_to(target):
        raise BundleError(f"{target} would be replaced by the bundle: name a folder inside it with --to")
    there = _nearest(path.parent)
    if not os.path.isdir(there):
        raise BundleError(f"{there} is not a folder, so no bundle can be written below it: {_OTHER}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BundleError(f"{there} cannot be written to: {_OTHER}")
    work, most = BundlePlace(target).work.name, os.pathconf(there, "PC_NAME_MAX")
    if max(len(os.fsencode(part)) for part in (work, *path.parent.relative_to(there).parts)) > most:
        allowed = most - len(work) + len(path.name)
        raise BundleError(f"--to {shown[:40]}...: a name there has at most {allowed} bytes: {_OTHER}")
    return target


def _nearest(path: Path) -> Path:
    """The path, or the nearest of its parents that exists."""
    for candidate in (path, *path.parents):
        try:
            os.lstat(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise BundleError(f"--to {printable(str(path))[:40]}...: {error.strerror}: {_OTHER}") from error
        return candidate
    return Path(path.anchor)


def _make_parents(folder: Path, undone: ExitStack) -> None:
    """Make a folder with its parents; those that stay empty are removed in the end."""
    for parent in reversed([parent for parent in (folder, *folder.parents) if not parent.is_dir()]):
        with suppress(FileExistsError):  # another process has made it just now
            parent.mkdir()
            undone.callback(_remove_empty, parent)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _locked(target: BundlePlace) -> IO[str]:
    """Make or take over the working folder of a target, and return its lock."""
    lock = target.work / LOCK
    for _ in range(_TRIES):
        try:
            target.work.mkdir(0o700)
        except FileExistsError:
            if (reason := _foreign(target.work)) is not None:
                raise BundleError(f"{target.work} is not of a 'vitsearch ship' of yours ({reason}): {_OTHER}") from None
        with suppress(FileNotFoundError):  # whoever held it removes it just now
            stream = locks.try_lock(str(lock), f"ship to {target.folder}")
            if stream is None and (holder := locks.holder(str(lock))) is not None:
                who = f"process {holder.pid} of {holder.user} on {holder.host}, since {holder.since}"
                raise BundleError(f"{target.folder} is being written by {printable(who)}: wait for it, or {_OTHER}")
            if stream is not None and _is_same(stream, lock):
                return stream
        time.sleep(_WAIT_S)
    raise BundleError(f"{target.folder} is being written by another process: wait for it, or {_OTHER}")


def _foreign(work: Path) -> str | None:
    """Why a working folder that exists was not left by a process of this user; None if it was."""
    with suppress(FileNotFoundError):
        status = os.lstat(work)
        if not stat.S_ISDIR(status.st_mode):
            return "it is not a folder"
        if status.st_uid != os.geteuid():
            return f"it belongs to user {status.st_uid}"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "others may write to it"
        names = set(os.listdir(work))  # once: its owner may make or remove the lock just now
        if others := names - {LOCK, NEW, NEW_ZIP, EARLIER}:
            return f"it has {printable(min(others))}"
        if names and LOCK not in names:
            return f"it has no {LOCK}"
        if (mode := _mode(work / LOCK)) is not None and not stat.S_ISREG(mode):
            return f"its {LOCK} is not a file"
    return None


def _is_same(stream: IO[str], path: Path) -> bool:
    """Whether a locked file still has its name: whoever held the lock before may have removed it."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(stream.fileno()), os.lstat(path)):
            return True
    stream.close()
    return False


def _release(target: BundlePlace, lock: IO[str]) -> None:
    target.clear()
    with lock, suppress(OSError):
        if set(os.listdir(target.work)) == {LOCK}:
            (target.work / LOCK).unlink()
            target.work.rmdir()


def _not_written(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"the bundle cannot be written to {folder}: {error.strerror or error}")


def _mode(path: Path) -> int | None:
    """What a path itself is, a link too; None if there is nothing."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _obstacle(path: Path, name: str | None) -> str | None:
    """Why a folder or zip must not be replaced by the bundle called `name` (None: by any bundle); None for an earlier
    one of that name with nothing in it but what we wrote."""
    try:
        with bundle.opened(str(path)) as folder:
            _, wrong = bundle.damaged(folder)
            present = json.loads((Path(folder) / bundle.MANIFEST).read_bytes())["name"]
    except (AgentError, OSError, ValueError, KeyError, TypeError):
        return "is not a bundle"
    if name is not None and present != name:
        return f"is another bundle, {printable(str(present))}"
    return f"is not as it was shipped ({printable('; '.join(wrong))})" if wrong else None


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that was not there, and is on the disk when the block ends. The folder above it keeps it private until it
    is complete; then it has the permissions of the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with open(descriptor, "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(descriptor)


def _write_folder(files: Mapping[str, File], folder: Path) -> None:
    folder.mkdir()
    for name, content in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _new_file(path) as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream)


def _write_zip(files: Mapping[str, File], root: str, path: Path) -> None:
    with _new_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{root}/{name}", WHEN)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
