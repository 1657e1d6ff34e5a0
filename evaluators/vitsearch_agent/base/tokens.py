"""Access tokens: a file with mode 0600 and one valid token per line.

A client that may submit jobs can, at worst, run code as the agent's user, so a token is a password. The agent reads
the file again when it has changed: a rotation needs no restart.
"""

import contextlib
import hmac
import logging
import os
import re
import secrets
import threading
from typing import Optional, Tuple

from vitsearch_agent.base.atomic_files import replacing
from vitsearch_agent.errors import InvalidRequest

logger = logging.getLogger(__name__)

FILE_NAME = "token"

_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,512}\Z")

_Stamp = Tuple[int, int, int]


def new_token() -> str:
    """Return 256 random bits as 64 hex digits."""
    return secrets.token_hex(_BYTES)


def checked_token(text: str, where: str) -> str:
    """Return `text` without surrounding space; InvalidRequest, without the text, if it is not a token."""
    token = text.strip()
    if not _TOKEN.match(token):
        raise InvalidRequest(f"{where}: a token has at least 32 letters and digits")
    return token


def read_tokens(path: str) -> Tuple[str, ...]:
    """Return the tokens of a file, the newest first."""
    try:
        with open(path) as stream:
            lines = stream.read(1 << 16).splitlines()
    except FileNotFoundError as error:
        raise InvalidRequest(f"token file {path} does not exist; an agent creates its own when it starts") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"token file {path}: {getattr(error, 'strerror', None) or error}") from error
    tokens = tuple(checked_token(line, f"token file {path}") for line in lines if line.strip())
    if not tokens:
        raise InvalidRequest(f"token file {path}: the file is empty; a token has at least 32 letters and digits")
    return tokens


def write_tokens(path: str, tokens: Tuple[str, ...]) -> None:
    """Replace the file in one step. Only its owner can read it at any time."""
    with replacing(path, 0o600, part=f"{path}.{os.getpid()}") as stream:
        with contextlib.suppress(OSError):  # when root rotates the token, the file still belongs to the agent's user
            before = os.stat(path)
            os.fchown(stream.fileno(), before.st_uid, before.st_gid)
        stream.write("".join(token + "\n" for token in tokens).encode("ascii"))


def rotate(path: str, keep_old: bool) -> str:
    """Write a new token and return it; with `keep_old` the newest of the old tokens stays valid.

    InvalidRequest if the folder does not exist or this user may not write there.
    """
    old = read_tokens(path)[:1] if keep_old else ()
    token = new_token()
    try:
        write_tokens(path, (token,) + old)
    except OSError as error:
        raise InvalidRequest(f"token file {path} cannot be written: {error.strerror}") from error
    return token


class TokenFile:
    """The tokens of a running agent. Thread-safe.

    If the file is deleted or damaged while the agent runs, no token is valid until the file is repaired.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._file_stamp()  # before reading: a file that is replaced in between is read again
        self._tokens = tuple(token.encode() for token in read_tokens(path))

    def admits(self, token: bytes) -> bool:
        """Whether `token` is valid; the time does not depend on where it differs from a valid one."""
        with self._lock:
            self._refresh()
            tokens = self._tokens
        is_valid = False
        for valid in tokens:
            is_valid |= hmac.compare_digest(valid, token)
        return is_valid

    def _refresh(self) -> None:
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = tuple(token.encode() for token in read_tokens(self._path))
            logger.info("read the changed tokens in %s", self._path)
        except InvalidRequest as error:
            self._tokens = ()
            logger.warning("no token is valid: %s", error)

    def _file_stamp(self) -> Optional[_Stamp]:
        try:
            state = os.stat(self._path)
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino, state.st_size
