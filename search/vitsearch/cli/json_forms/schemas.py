"""JSON Schemas in few words: each field of an object has a type and its meaning."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object"}


def maybe(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def several(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def by_name(schema: Schema) -> Schema:
    """An object whose keys are names that the schema does not list, such as those of metrics."""
    return {"type": "object", "additionalProperties": schema}


def fields(**named: tuple[Schema, str]) -> Schema:
    """An object with exactly these fields, each with its meaning."""
    properties = {name: {**schema, "description": text} for name, (schema, text) in named.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def and_more(schema: Schema, **named: tuple[Schema, str]) -> Schema:
    """An object with the fields of ``schema`` and more; one of the same name replaces that of ``schema``."""
    more = fields(**named)
    return more | {
        "properties": schema["properties"] | more["properties"],
        "required": list(dict.fromkeys([*schema["required"], *more["required"]])),
    }
