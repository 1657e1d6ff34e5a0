"""The JSON Schema of space files, for editors: ``vitsearch schema > spaces/schema.json``."""

from __future__ import annotations

from typing import Any

from vitsearch.space.model import SearchSpace

_PARTIAL = ("Task", "Knobs", "Data")
"""Sections that a file which extends another may give in part."""


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, with titles and descriptions; knows ``extends`` too."""
    schema = SearchSpace.model_json_schema()
    for name in _PARTIAL:
        schema["$defs"][name].pop("required", None)
    for hidden in ("backbone", "weights", "resolution"):
        schema["$defs"]["Baseline"]["properties"][hidden].pop("default", None)
    for owner in ("Teacher", "Backbone"):
        schema["$defs"][owner]["properties"]["weights"].pop("default", None)
    properties = schema.pop("properties")
    for computed in ("baseline", "storage"):
        properties[computed].pop("default", None)
    extends = {"type": "string", "description": "A space file whose keys hold where this one says nothing."}
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
