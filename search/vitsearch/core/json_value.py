"""Frozen values as JSON, by their types. `vitsearch.cli.json_forms` makes their schemas of the same types."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def json_of(value: Any) -> Any:
    """A frozen value, a mapping, or a list of such, in JSON types."""
    if isinstance(value, list):
        return [json_of(item) for item in value]
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json", warnings="none")


def json_text(value: Any) -> str:
    """What a command prints with `--json`. It is ASCII, whatever a device or a file name says: pydantic's own text
    has the control characters of terminals above 127, and refuses the paths that are no UTF-8."""
    return json.dumps(json_of(value), indent=2)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # here, as the command line starts without it

    return TypeAdapter(kind)
