"""Model files, addressed by content: uploaded in chunks, verified, and kept until their room is needed.

    blobs/SHA256            complete and verified, read-only
    partial/SHA256          the received part of an upload; the upload continues at its length

The store holds at most 256 unfinished uploads and 10,000 files of any size. It removes an upload that got no chunk
for a week.

The server reads a chunk completely before it calls the store. So the store is not locked while a slow client
sends, and a request that was abandoned and completes late finds that its offset was already written.
"""

import contextlib
import os
import sqlite3
import threading
import time
from typing import Callable, Dict, FrozenSet, Mapping, NamedTuple, Optional, Set, Tuple

from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.plain_files import copy_file
from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import ArtifactMissing, InvalidRequest, NotFound, TransferFailed
from vitsearch_agent.queue.uploads import Uploads

FILES_MAX = 10_000
_WORK_BYTES = 1 << 20


class StoreLimits(NamedTuple):
    """Limits in bytes: for one blob, for all blobs together, and for the room that stays free on the disk."""

    max_blob_bytes: int
    quota_bytes: int
    reserve_bytes: int

    @classmethod
    def of(cls, limits: LimitsConfig) -> "StoreLimits":
        """Return the limits that the device's configuration gives in MB (10^6 bytes)."""
        return cls(limits.max_blob_mb * 10**6, limits.quota_mb * 10**6, limits.reserve_mb * 10**6)


class UploadProgress(NamedTuple):
    """How many bytes of a blob the store has, and whether that is all of it."""

    offset: int
    complete: bool


class BlobStore:
    """The files on the disk. Thread-safe. `referenced` returns the digests that queued and running jobs need.

    `uses` counts requests of clients that may disturb a measurement: chunks received or sent, models inspected.
    """

    def __init__(
        self,
        root: str,
        limits: StoreLimits = StoreLimits.of(LimitsConfig()),  # noqa: B008 - immutable
        referenced: Callable[[], Set[str]] = set,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.referenced = referenced
        self.uses = 0
        self._blobs = os.path.join(root, "blobs")
        self._uploads = Uploads(os.path.join(root, "partial"), clock)
        self._lock = threading.RLock()
        os.makedirs(self._blobs, exist_ok=True)

    def progress(self, sha256: str) -> UploadProgress:
        """Return how much of a blob is stored; NotFound if nothing is."""
        size = _size(self._blob_path(sha256))
        if size is not None:
            return UploadProgress(size, True)
        size = _size(self._uploads.path(sha256))
        if size is None:
            raise NotFound(f"no blob {sha256}")
        return UploadProgress(size, False)

    def has(self, sha256: str) -> bool:
        """Return whether a blob is stored completely."""
        return self.size(sha256) is not None

    def size(self, sha256: str) -> Optional[int]:
        """Return the size of a complete blob, None if it is not stored."""
        return _size(self._blob_path(sha256))

    def prepare(self, sha256: str, size: int) -> UploadProgress:
        """Make room for an upload of `size` bytes; TransferFailed `too_large`, `no_space` or, where all bytes had
        arrived and were not verified, `digest_mismatch`."""
        with self._lock:
            if self.size(sha256) not in (None, size):
                self.drop_damaged(sha256)
            if self.has(sha256):
                os.utime(self._blob_path(sha256), None)
                return self.progress(sha256)
            if size > self.limits.max_blob_bytes:
                raise TransferFailed(
                    f"the file has {size} bytes; this agent accepts at most {self.limits.max_blob_bytes}",
                    {"reason": "too_large", "limit": self.limits.max_blob_bytes},
                )
            arrived = _size(self._uploads.path(sha256)) or 0
            if arrived and arrived == size:  # the agent ended before it had verified the last chunk
                return self._finish(sha256, size)
            if arrived > size:  # of another announcement
                os.remove(self._uploads.path(sha256))
                arrived = 0
            self._make_room(max(0, size - arrived), sha256, self._uploads.ahead_of(sha256, arrived))
            return UploadProgress(arrived, False)

    def refuse_unfit(self, sizes: Mapping[str, int]) -> None:
        """Refuse files, by digest, that a job needs at the same time and that would evict each other.

        Raises TransferFailed: `too_large` for more than the quota, `no_space` while the disk is too full or other jobs
        need too much.
        """
        with self._lock:
            needed, quota = sum(sizes.values()), self.limits.quota_bytes
            if needed > quota:
                raise TransferFailed(
                    f"the files of the job have {needed} bytes together; this agent keeps at most {quota}",
                    {"reason": "too_large", "limit": quota},
                )
            used = sum(status.st_size for status in self._files().values())
            # The job also has copies of them, beside the store.
            room = min(quota, _free_bytes(self._blobs) + used - self.limits.reserve_bytes - needed)
            others = sum(self.size(name) or 0 for name in self.referenced() - set(sizes))
            if needed + others > room:
                raise TransferFailed(
                    f"no room for the files of the job, {needed} bytes together: there is room for {room}, of which "
                    f"other jobs need {others}",
                    {"reason": "no_space"},
                )

    def append(self, sha256: str, offset: int, total: int, chunk: bytes) -> UploadProgress:
        """Append a chunk at `offset`; after the last one, verify the digest.

        Raises TransferFailed: `offset_mismatch` (details: the offset at which to continue),
        `digest_mismatch` (the upload is removed), `no_space`, `too_large`.
        """
        with self._lock:
            self.uses += 1
            if self.has(sha256):
                return self.progress(sha256)
            if not chunk:
                raise InvalidRequest("a chunk needs at least one byte")
            path = self._uploads.path(sha256)
            # Check for each chunk: the first may have announced a smaller size, and others fill the disk too.
            progress = self.prepare(sha256, total)
            if progress.complete:
                return progress
            arrived = progress.offset
            if offset != arrived:
                raise TransferFailed(
                    f"the chunk starts at {offset}, but {arrived} bytes have arrived",
                    {"reason": "offset_mismatch", "offset": arrived},
                )
            if offset + len(chunk) > min(total, self.limits.max_blob_bytes):
                raise InvalidRequest(f"the chunk exceeds the announced {total} bytes")
            self._write(path, chunk)
            self._uploads.touch(sha256)
            if offset + len(chunk) < total:
                return UploadProgress(offset + len(chunk), False)
            return self._finish(sha256, total)

    def path(self, sha256: str) -> str:
        """Return the path of a complete blob, for inspection; it may be removed at any time unless a job needs it."""
        with self._lock:
            self.uses += 1
        return self._blob_path(sha256)

    def copy(self, sha256: str, path: str) -> None:
        """Put a copy of the blob at `path`, which the child of a job may change as it likes.

        Raises ArtifactMissing if it is not stored or was damaged, TransferFailed `no_space`, and OSError.
        """
        with self._lock:
            blob, size = self._blob_path(sha256), self.size(sha256)
            if size is None:
                raise ArtifactMissing(f"no blob {sha256}", {"missing": [sha256]})
            self._make_room(0, sha256, copied=size)
            copy_file(blob, path)
            if file_digest(path) != sha256:
                os.remove(blob)
                raise ArtifactMissing(f"blob {sha256} was damaged on the disk", {"missing": [sha256]})
            os.utime(blob, None)

    def drop_damaged(self, sha256: str) -> bool:
        """Remove a blob whose content is not that of its digest, and return whether it was so."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            if file_digest(self._blob_path(sha256)) != sha256:
                os.remove(self._blob_path(sha256))
                return True
        return False

    def adopt(self, path: str, beside: FrozenSet[str] = frozenset()) -> str:
        """Move a file that a job made into the store and return its digest. It may be evicted like an unneeded model.

        The files with the digests `beside` are not evicted for it. Raises TransferFailed `no_space`.
        """
        sha256 = file_digest(path)
        with self._lock:
            is_new = not self.has(sha256)
            self._publish(path, sha256)
            try:
                self._make_room(0, sha256, beside)
            except TransferFailed:
                if is_new:
                    os.remove(self._blob_path(sha256))
                    raise
        return sha256

    def read(self, sha256: str, offset: int, count: int) -> Tuple[bytes, int]:
        """Return up to `count` bytes of a complete blob from `offset`, and its size; NotFound if it is not stored."""
        with self._lock:
            self.uses += 1
            try:
                with open(self._blob_path(sha256), "rb") as stream:
                    size = stream.seek(0, os.SEEK_END)
                    stream.seek(min(offset, size))
                    return stream.read(count), size
            except FileNotFoundError as error:
                raise NotFound(f"no blob {sha256}") from error

    def problem(self) -> Optional[str]:
        """Return why the store would refuse uploads now, or None."""
        free = _free_bytes(self._blobs)
        if free < self.limits.reserve_bytes:
            return f"disk: {free} bytes are free, less than the reserve of {self.limits.reserve_bytes}"
        return None

    def has_room(self) -> bool:
        """Return whether the disk has room for the small files of a job."""
        return _free_bytes(self._blobs) >= min(self.limits.reserve_bytes, _WORK_BYTES)

    def restore_reserve(self) -> None:
        """Remove files that no job needs until the reserve is free, as far as possible."""
        with self._lock, contextlib.suppress(TransferFailed, OSError, sqlite3.Error):
            self._make_room(0, "")

    def drop_unneeded(self) -> None:
        """Remove the files that no queued or running job needs; clients can send them again. Uploads go on."""
        with self._lock, contextlib.suppress(OSError, sqlite3.Error):
            for name in set(os.listdir(self._blobs)) - self.referenced():
                os.remove(os.path.join(self._blobs, name))

    def drop_unfinished(self) -> None:
        """Remove what has arrived of uploads that are not complete."""
        with self._lock, contextlib.suppress(OSError):
            for name in os.listdir(self._uploads.folder):
                os.remove(os.path.join(self._uploads.folder, name))

    def drop_oldest(self) -> bool:
        """Remove the least recently used file, even if a job needs it; False if there is none left."""
        with self._lock:
            oldest = next(iter(self._files()), None)
            if oldest is None:
                return False
            os.remove(oldest)
            return True

    def _write(self, path: str, chunk: bytes) -> None:
        try:
            with open(path, "ab") as stream:
                stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise TransferFailed(f"the chunk cannot be written: {error.strerror}", {"reason": "no_space"}) from error

    def _finish(self, sha256: str, total: int) -> UploadProgress:
        path = self._uploads.path(sha256)
        digest = file_digest(path)
        if digest != sha256:
            os.remove(path)
            raise TransferFailed(
                f"the content has the digest {digest}, not {sha256}; send the file again",
                {"reason": "digest_mismatch", "actual": digest},
            )
        self._publish(path, sha256)
        return UploadProgress(total, True)

    def _publish(self, path: str, sha256: str) -> None:
        """Move a complete and verified file into the store, read-only."""
        os.chmod(path, 0o444)
        os.replace(path, self._blob_path(sha256))

    def _make_room(self, needed: int, sha256: str, others: FrozenSet[str] = frozenset(), copied: int = 0) -> None:
        """Make room for `needed` bytes in the store, and for `copied` beside it."""
        keep = self.referenced() | {sha256}
        files = self._files()
        for path in self._uploads.abandoned(keep):
            os.remove(path)
            del files[path]
        used = sum(status.st_size for status in files.values())
        candidates = [path for path in files if os.path.basename(path) not in keep | others]
        free = _free_bytes(self._blobs)
        while (
            used + needed > self.limits.quota_bytes
            or free - needed - copied < self.limits.reserve_bytes
            or len(files) > FILES_MAX
        ):
            if not candidates:
                raise TransferFailed(
                    f"no room for {needed + copied} more bytes: {free} are free, of which "
                    f"{self.limits.reserve_bytes} are reserved; {used} of {self.limits.quota_bytes} are used",
                    {"reason": "no_space"},
                )
            oldest = candidates.pop(0)
            os.remove(oldest)
            size = files.pop(oldest).st_size
            free, used = free + size, used - size

    def _files(self) -> Dict[str, os.stat_result]:
        """Return all files, least recently used first."""
        folders = (self._blobs, self._uploads.folder)
        paths = [os.path.join(folder, name) for folder in folders for name in os.listdir(folder)]
        files = {path: os.stat(path) for path in paths}
        return dict(sorted(files.items(), key=lambda item: item[1].st_mtime))

    def _blob_path(self, sha256: str) -> str:
        return os.path.join(self._blobs, sha256)


def _size(path: str) -> Optional[int]:
    try:
        return os.path.getsize(path)
    except OSError:
        return None


def _free_bytes(path: str) -> int:
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize
