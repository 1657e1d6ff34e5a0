"""The files of studies on a server: S3, Google Cloud Storage, SFTP, whatever fsspec reaches.

    get    this machine's cache, else the server: downloaded by one process, checked against the name, kept in the cache
    put    uploaded under a temporary name and moved, or in one step where the server shows whole files only

Keys and passwords are those of the user's environment (AWS_..., GOOGLE_..., an SSH agent), never part of an address.
This is the only module that imports fsspec.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from vitsearch.core.activity import current
from vitsearch.errors import ResourceError, StoreError, VitsearchError
from vitsearch.storage.atomic_files import PART
from vitsearch.storage.files import (
    MODEL_SUFFIXES,
    TRIED,
    USERS,
    FileStore,
    StoredFile,
    StoredModel,
    is_place,
    is_unnamed,
    name_of,
    place_of,
    user_place,
)
from vitsearch.storage.locks import locked
from vitsearch.storage.ownership_notes import ABOUT, NOTE, is_note
from vitsearch_agent.artifacts import model_files
from vitsearch_agent.base.canonical_json import digest, file_digest
from vitsearch_agent.base.system import user_cache_folder

EXTRAS = {"s3": "s3", "gs": "gs", "sftp": "sftp"}
"""The extra of vitsearch that brings what reaches a kind of server."""
WHOLE_FILES = ("s3", "gs")
"""Kinds of servers that show a file only when all of it was uploaded. They have no folders."""
REFUSED = (FileNotFoundError, PermissionError)
"""Errors that stay: a server that is away for a while gives others."""
WITHOUT_KEYS = ("NoCredentialsError", "PartialCredentialsError")
KEEPALIVE_S = 30
"""Between signs of life on a connection by SFTP: a link that died silently is noticed."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
"""Pauses between attempts."""
PATIENCE_S = 60.0
"""No attempt begins later than this: a server that is away costs a minute, and what the last attempt takes."""
SILENT_S = 15.0
"""A server that takes and says nothing for so long does not answer. What moves may take hours."""
S3_ATTEMPTS = 2
"""Of one request within an attempt of ours: a part of a large file is sent again without the others."""
PATH_OF_URL = re.compile(r"(\w+://[^/\"\s]+)/[^\"\s]*")
DOWNLOADS = 2
"""How often a file is downloaded before its content counts as damaged."""

T = TypeVar("T")
_seen: set[tuple[str, str]] = set()
"""Files that a server was found to have, in this process: they do not change."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteStore:
    """A `Store` on a server, with a cache on each machine."""

    url: str

    @property
    def address(self) -> str:
        return self.url

    @property
    def is_remote(self) -> bool:
        return True

    @property
    def cache(self) -> FileStore:
        """What was read or written on this machine. It may be deleted."""
        return FileStore(Path(user_cache_folder(), "files", digest(self.url)[:16]))

    def put(self, path: Path) -> str:
        sha256 = file_digest(str(path))
        self._upload(path, place_of(sha256))
        self.cache.put(path)
        return sha256

    def put_model(self, path: Path) -> StoredModel:
        sha256 = name_of(path)
        files = [Path(file) for file in model_files(str(path)).values()]
        for file in reversed(files):  # the model file last: with it the model is complete
            self._upload(file, place_of(sha256) + file.suffix)
        return self.cache.put_model(path)

    def get(self, sha256: str) -> Path:
        if self.cache.find_file(sha256) is None:
            self._fetch(sha256)
        return self.cache.get(sha256)

    def model(self, sha256: str) -> Path:
        if path := self.cache.whole_model(sha256):
            return path
        suffix = next((ending for ending in MODEL_SUFFIXES if self._has(place_of(sha256) + ending)), None)
        if suffix is None:
            raise StoreError(f"model {sha256[:12]} is not in the store {self.url}: was it deleted there?")
        self._fetch(sha256, suffix)
        return self.cache.model(sha256)

    def holds(self, sha256: str) -> bool:
        return self.cache.holds(sha256) or self.is_shared(sha256)

    def is_shared(self, sha256: str) -> bool:
        place = place_of(sha256)
        return any(self._has(place + suffix) for suffix in ("", *MODEL_SUFFIXES))

    def find_model(self, sha256: str) -> Path | None:
        return self.cache.find_model(sha256)

    def unnamed(self, named: Collection[str]) -> list[StoredFile]:
        return [file for file in self._patiently("listed", _files) if is_unnamed(file.place, named)]

    def delete(self, file: StoredFile) -> None:
        def remove(server: Any, root: str) -> None:
            with suppress(FileNotFoundError):
                server.rm_file(f"{root}/{file.place}")

        self._patiently("deleted", remove)
        _seen.discard((self.url, file.place))
        self.cache.delete(file)

    def prepare(self) -> None:
        self._once("written", lambda server, root: self._write(server, f"{root}/{NOTE}", ABOUT))

    def try_out(self) -> None:
        def write_and_delete(server: Any, root: str) -> None:
            folder = root if self._shows_whole_files else _nearest_folder(server, root)
            place = f"{folder}/vitsearch-{uuid.uuid4().hex}{PART}"
            server.pipe_file(place, TRIED)
            try:
                server.rm_file(place)
            except Exception as error:
                raise OSError(f"{place} was written, but cannot be deleted: {error}") from error

        self._once("written", write_and_delete)

    def is_ours(self) -> bool:
        def has_note(server: Any, root: str) -> bool:
            path = f"{root}/{NOTE}"
            return _size(server, path) is not None and is_note(server.cat_file(path, end=len(ABOUT)))

        return self._patiently("read", has_note)

    def is_empty(self) -> bool:
        def has_none(server: Any, root: str) -> bool:
            server.invalidate_cache()
            try:
                return not server.ls(root, detail=False)
            except FileNotFoundError:
                return True

        return self._patiently("listed", has_none)

    def register(self, database: str, about: str) -> None:
        place = user_place(database)
        self._patiently("written", lambda server, root: self._write(server, f"{root}/{place}", about.encode()))

    def _write(self, server: Any, path: str, content: bytes) -> None:
        self._make_folder(server, path.rpartition("/")[0])
        server.pipe_file(path, content)

    def users(self) -> dict[str, str]:
        def read(server: Any, root: str) -> dict[str, str]:
            server.invalidate_cache()
            paths = server.find(f"{root}/{USERS}")
            return {path.rpartition("/")[2]: server.cat_file(path).decode() for path in paths}

        return self._patiently("read", read)

    # ---- one file there

    def _has(self, place: str) -> bool:
        if (self.url, place) not in _seen:
            if self._patiently("read", lambda server, root: _size(server, f"{root}/{place}")) is None:
                return False
            _seen.add((self.url, place))
        return True

    def _upload(self, path: Path, place: str) -> None:
        size = path.stat().st_size

        def upload(server: Any, root: str) -> None:
            target = f"{root}/{place}"
            if _size(server, target) == size:
                return
            if self._shows_whole_files:
                server.put_file(str(path), target)
            else:
                self._make_folder(server, target.rpartition("/")[0])
                _put_and_move(server, path, target)
            if (stored := _size(server, target)) != size:
                raise OSError(f"{place} has {stored} bytes there instead of {size}")

        self._patiently("written", upload)
        _seen.add((self.url, place))

    def _fetch(self, sha256: str, suffix: str = "") -> None:
        """Bring a file, or the model whose file has a `suffix`, into the cache, checked against its name. Of the
        processes of this machine one downloads it, and the others wait. Files share 256 locks."""
        find, keep = (
            (self.cache.whole_model, self.cache.put_model) if suffix else (self.cache.find_file, self.cache.put)
        )
        lock = self.cache.root / "locks" / sha256[:2]
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock), tempfile.TemporaryDirectory(prefix="vitsearch-") as folder:
            if find(sha256) is not None:
                return
            place, path = place_of(sha256), Path(folder, f"file{suffix}")
            files = model_files(str(path)).values() if suffix else [str(path)]
            for _ in range(DOWNLOADS):
                for file in files:
                    self._download(place + Path(file).suffix, file)
                if name_of(path) == sha256:
                    keep(path)
                    return
        with suppress(StoreError):  # who only reads may not delete
            for file in files:
                self.delete(StoredFile(place + Path(file).suffix, 0))
        raise StoreError(
            f"{self.url}/{place}{suffix} is damaged: its content is not what its name says. Where it could be deleted, "
            "the next 'vitsearch run' makes it again; else delete it"
        )

    def _download(self, place: str, to: str) -> None:
        def download(server: Any, root: str) -> bool:
            try:
                server.get_file(f"{root}/{place}", to)
            except FileNotFoundError:
                return False
            return True

        if not self._patiently("read", download):
            _seen.discard((self.url, place))
            raise StoreError(f"file {place} is not in the store {self.url}: was it deleted there?")

    # ---- the server

    @property
    def _shows_whole_files(self) -> bool:
        return self.url.partition("://")[0] in WHOLE_FILES

    def _make_folder(self, server: Any, folder: str) -> None:
        if not self._shows_whole_files:
            server.makedirs(folder, exist_ok=True)

    def _patiently(self, done: str, work: Callable[[Any, str], T]) -> T:
        """Try again for a minute, in which whoever watches the work sees what it waits for."""
        since = time.monotonic()
        with current().awaiting(f"files {self.url}") as awaited:
            for pause_s in PAUSES_S:
                try:
                    return self._once(done, work)
                except StoreError as error:
                    cause, left_s = error.__cause__, since + PATIENCE_S - time.monotonic()
                    if isinstance(cause, REFUSED) or _lacks_keys(cause):
                        raise
                    if left_s <= 0.0:
                        raise StoreError(f"{error}; it was tried for a minute; the same command resumes") from cause
                    awaited.why = PATH_OF_URL.sub(r"\1", _reason(cause))
                    pause_s = min(pause_s, left_s)
                    logger.warning("%s; trying again in %.2g s", error, pause_s)
                    time.sleep(pause_s)
            return self._once(done, work)

    def _once(self, done: str, work: Callable[[Any, str], T]) -> T:
        """Raises what went wrong as a `StoreError`: the files cannot be `done`."""
        try:
            return work(*_server(self.url))
        except VitsearchError:
            raise
        except Exception as error:  # each kind of server raises errors of its own
            reason = _reason(error)
            if _lacks_keys(error):
                here = f"machine {socket.gethostname()} has no keys for them ({reason})"
                advice = "give it those of the others, and the same command resumes"
                raise StoreError(f"files {self.url} cannot be {done}: {here}; {advice}") from error
            raise StoreError(f"files {self.url} cannot be {done}: {reason}") from error


def _reason(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _lacks_keys(error: BaseException | None) -> bool:
    """Whether a client found no keys, or half of them, on this machine: botocore, which not everybody has, says so by
    errors of its own."""
    return type(error).__name__ in WITHOUT_KEYS


def missing(url: str) -> str | None:
    """What is to be installed before a server can be reached, with the command; None where nothing is missing."""
    import fsspec

    kind = url.partition("://")[0]
    try:
        fsspec.get_filesystem_class(kind)
    except ImportError:
        return f"files {url}: what reaches {kind}:// is not installed; run: pip install 'vitsearch[{EXTRAS[kind]}]'"
    return None


def _server(url: str) -> tuple[Any, str]:
    """What fsspec has for a server, and the path of the store there."""
    import fsspec

    if lacking := missing(url):
        raise ResourceError(lacking)
    if url.startswith("sftp://"):
        kind = _sftp()
        server, root = _connected(kind, kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)
    elif url.startswith("s3://"):
        server, root = fsspec.url_to_fs(url, config_kwargs=_of_s3())
        server.retries = S3_ATTEMPTS
        server.s3.meta.events.register("before-call.s3", _send_at_once, unique_id="vitsearch")
    else:
        server, root = fsspec.url_to_fs(url)
    return server, root.rstrip("/")


def _of_s3() -> dict[str, Any]:
    """Settings of botocore, whose own attempts would multiply with those of s3fs and ours."""
    silent = {"connect_timeout": SILENT_S, "read_timeout": SILENT_S, "retries": {"total_max_attempts": 1}}
    return silent | {"connector_args": {"socket_factory": _noticing_socket}}


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Do not ask whether a server wants a file: aiohttp waits for ever for the answer."""
    params["headers"].pop("Expect", None)


def _noticing_socket(address: Any) -> socket.socket:
    """A socket that fails where the other end takes nothing of what is sent: asyncio would wait for ever."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    if sys.platform == "linux":
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_S * 1000))
    return made


def _connected(kind: Any, where: dict[str, Any]) -> Any:
    """fsspec keeps each connection for good, also one that the server has closed."""
    server = kind(**where)
    transport = server.client.get_transport()
    if transport is None or not transport.is_active():
        kind.clear_instance_cache()
        server = kind(**where)
    return server


@cache
def _sftp() -> Any:
    """fsspec's SFTP takes whatever answers for the server. This one wants the key in `~/.ssh/known_hosts`."""
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            ending = threading.Timer(2 * SILENT_S, self.client.close)  # paramiko waits for ever for some answers
            ending.start()
            try:
                silent = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout", "channel_timeout"), SILENT_S)
                self.client.connect(self.host, **silent | self.ssh_kwargs)
                self.client.get_transport().set_keepalive(KEEPALIVE_S)
                self.ftp = self.client.open_sftp()
            finally:
                ending.cancel()
            self.ftp.get_channel().settimeout(SILENT_S)

    return KnownHosts


def _nearest_folder(server: Any, folder: str) -> str:
    while folder.strip("/") and not server.exists(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _size(server: Any, path: str) -> int | None:
    """The bytes of a file; None where there is none."""
    server.invalidate_cache()  # of listings
    try:
        return int(server.info(path)["size"])
    except FileNotFoundError:
        return None


def _put_and_move(server: Any, path: Path, target: str) -> None:
    part = f"{target}-{uuid.uuid4().hex}{PART}"
    try:
        server.put_file(str(path), part)
        server.mv(part, target)
    except BaseException:
        with suppress(Exception):  # the server may be away; 'studies clean' finds what is left
            server.rm_file(part)
        raise


def _files(server: Any, root: str) -> list[StoredFile]:
    server.invalidate_cache()
    listing = server.find(root, detail=True)
    places = {path.removeprefix(f"{root}/"): int(info["size"]) for path, info in listing.items()}
    return [StoredFile(place, size) for place, size in sorted(places.items()) if is_place(place)]
