"""The JSON Schema of space files, for editors: `vitsearch schema > spaces/schema.json`."""

from __future__ import annotations

from typing import Any

from vitsearch.space.model import SearchSpace

_PARTIAL = ("TaskSection", "Knobs", "Data")
"""Sections that may be incomplete in a file that extends another."""


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) with titles and descriptions, `extends` included."""
    schema = SearchSpace.model_json_schema()
    for name in _PARTIAL:
        schema["$defs"][name].pop("required", None)
    for hidden in ("backbone", "weights", "resolution"):
        schema["$defs"]["Baseline"]["properties"][hidden].pop("default", None)
    for owner in ("TeacherSection", "BackboneSection"):
        schema["$defs"][owner]["properties"]["weights"].pop("default", None)
    properties = schema.pop("properties")
    for computed in ("baseline", "storage"):
        properties[computed].pop("default", None)
    extends = {
        "type": "string",
        "description": "Another space file; its values are used for the keys that this file leaves out.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vitsearch space file",
        "description": schema.pop("description"),
        "type": schema.pop("type"),
        "additionalProperties": schema.pop("additionalProperties"),
        "anyOf": [{"required": ["extends"]}, {"required": ["task", "objectives", "space"]}],
        "properties": {"extends": extends, **properties},
        "$defs": schema["$defs"],
    }
