"""Addresses of databases and of files: as they may be written, and as they may be shown."""

from __future__ import annotations

import re
from pathlib import Path

SERVERS = ("s3", "gs", "sftp")
"""Kinds of servers for files."""


def masked(url: str) -> str:
    """`url` with its passwords replaced by `***`. What is no URL is treated as one without a scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    user, at, host = rest.rpartition("@")
    if at and ":" in user:
        rest = f"{user.partition(':')[0]}:***@{host}"
    return scheme + separator + re.sub(r"(password)=[^&]*", r"\1=***", rest)


def shown_argument(text: str) -> str:
    """What a person typed, such as the name or the URL of a study, without the password of a URL."""
    return masked(text) if "://" in text else text


def without_password(text: str, address: str) -> str:
    """A text, such as that of an error, in which an address may stand with its password."""
    return text.replace(address, shown_argument(address))


def files_problem(value: str) -> str | None:
    """Why files cannot be stored there, else None."""
    kind, separator, rest = value.partition("://")
    if separator and kind not in (*SERVERS, "file"):
        return f"{masked(value)!r} is not a place for files; allowed: a folder, s3://..., gs://..., sftp://..."
    if separator and kind != "file":
        host, _, _ = rest.partition("/")
        if "::" in rest:  # fsspec would open one place inside another
            return f"{masked(value)!r} is several places; allowed: one"
        if not host:
            return f"{value!r} names no {'host' if kind == 'sftp' else 'bucket'}; write it like {kind}://NAME/FOLDER"
        if ":" in host.rpartition("@")[0] or (kind != "sftp" and "@" in host):
            return "a key or password does not belong in an address; files are reached with those of your environment"
    return None if value.strip() else "no place for files; write a folder, s3://..., gs://... or sftp://..."


def files_address(value: str) -> str:
    """A place for files, written in one way: a URL without a slash at its end, or a whole path."""
    kind, separator, rest = value.partition("://")
    if separator and kind != "file":
        return value.rstrip("/")
    return str(Path(rest if separator else value).expanduser().absolute())
