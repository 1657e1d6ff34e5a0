"""JSON columns as the text that a database has, decoded after its digest was compared (`seals.py`)."""

from __future__ import annotations

import json
from typing import Any

from vitsearch.core.decoding import parsed


class JsonText(str):
    """A text that is JSON. What an engine reads from a column of JSON is one, and it is stored as it is."""

    def value(self, where: str) -> Any:
        """What it says. Raises `Damaged`."""
        return parsed(str(self), where)


def from_database(text: str | bytes | Any) -> JsonText:
    """As an engine reads it; SQLite may have any value there."""
    return JsonText(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def to_database(value: Any) -> str:
    """As an engine stores it."""
    return str(value) if isinstance(value, JsonText) else json.dumps(value)
