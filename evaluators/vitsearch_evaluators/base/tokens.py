"""The secret that lets a client in: a file of 0600 with one token a line, each of them valid.

Whoever may submit a job can, at worst, run code as the agent's user, so a token is a password. The
agent looks at the file again when it was changed: a rotation needs no restart.
"""

import contextlib
import hmac
import logging
import os
import re
import secrets
import threading
from typing import Optional, Tuple

from vitsearch_evaluators.base.atomic_files import replacing
from vitsearch_evaluators.errors import InvalidRequest

logger = logging.getLogger(__name__)

FILE_NAME = "token"

_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,512}\Z")

_Stamp = Tuple[int, int, int]


def new_token() -> str:
    """Return 256 random bits as 64 hex digits."""
    return secrets.token_hex(_BYTES)


def checked_token(text: str, where: str) -> str:
    """Return a token without the space around it; InvalidRequest, which never shows it, when it is none."""
    token = text.strip()
    if not _TOKEN.match(token):
        raise InvalidRequest(f"{where}: a token is at least 32 letters and digits")
    return token


def read_tokens(path: str) -> Tuple[str, ...]:
    """Return the tokens of a file, the newest first."""
    try:
        with open(path) as stream:
            lines = stream.read(1 << 16).splitlines()
    except FileNotFoundError as error:
        raise InvalidRequest(f"token file {path} is not there; an agent makes its own when it is started") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"token file {path}: {getattr(error, 'strerror', None) or error}") from error
    tokens = tuple(checked_token(line, f"token file {path}") for line in lines if line.strip())
    if not tokens:
        raise InvalidRequest(f"token file {path}: it is empty; a token is at least 32 letters and digits")
    return tokens


def write_tokens(path: str, tokens: Tuple[str, ...]) -> None:
    """Replace the file in one step. Only its owner can read it at any time."""
    with replacing(path, 0o600, part=f"{path}.{os.getpid()}") as stream:
        with contextlib.suppress(OSError):  # when root rotates the token, the file still belongs to the agent's user
            before = os.stat(path)
            os.fchown(stream.fileno(), before.st_uid, before.st_gid)
        stream.write("".join(token + "\n" for token in tokens).encode("ascii"))


def rotate(path: str, keep_old: bool) -> str:
    """Write a new token and return it; `keep_old` leaves the newest of the old ones valid beside it.

    InvalidRequest where there is no folder for it, or this user may not write there.
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

    A file that was deleted or damaged while the agent runs lets nobody in until it is right again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._look()  # first: what is replaced between the two is read again
        self._tokens = tuple(token.encode() for token in read_tokens(path))

    def admits(self, token: bytes) -> bool:
        """Whether this is one of the tokens, in a time that does not depend on where it differs."""
        with self._lock:
            self._refresh()
            tokens = self._tokens
        found = False
        for valid in tokens:
            found |= hmac.compare_digest(valid, token)
        return found

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = tuple(token.encode() for token in read_tokens(self._path))
            logger.info("the tokens of %s were read again", self._path)
        except InvalidRequest as error:
            self._tokens = ()
            logger.warning("nobody is let in: %s", error)

    def _look(self) -> Optional[_Stamp]:
        try:
            state = os.stat(self._path)
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino, state.st_size
