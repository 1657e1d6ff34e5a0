"""Addresses of databases, as they may be shown."""

from __future__ import annotations

import re


def masked(url: str) -> str:
    """``url`` with its passwords replaced by ``***``. What is no URL is treated as one without a scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    user, at, host = rest.rpartition("@")
    if at and ":" in user:
        rest = f"{user.partition(':')[0]}:***@{host}"
    return scheme + separator + re.sub(r"(password)=[^&]*", r"\1=***", rest)
