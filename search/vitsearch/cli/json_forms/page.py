"""The page ``docs/json.md``, made from the schemas."""

from __future__ import annotations

from collections.abc import Iterator

from vitsearch.cli.json_forms import FORMS
from vitsearch.cli.json_forms.schemas import Schema


def page() -> str:
    """The text of ``docs/json.md``."""
    lines = [
        "# What `--json` prints",
        "",
        "With `--json` every command that has results prints them and nothing else on standard output; messages go to",
        "standard error. `vitsearch schema COMMAND` prints the JSON Schema of a command, for example",
        "`vitsearch schema front`. Names of metrics carry their units; what was not measured is `null` with a reason.",
        "This page is made from these schemas, and tests hold the output of the commands against them.",
        "",
    ]
    for form in FORMS.values():
        lines += [f"## vitsearch {form.command}", "", form.text, ""]
        rows = list(_rows(form.schema, ""))
        if rows:
            lines += ["| field | type | meaning |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _rows(schema: Schema, before: str) -> Iterator[str]:
    """A row for each field; those of inner objects are written ``points[].trial``, ``models.params_m.low``."""
    if schema.get("type") == "array":
        yield from _rows(schema["items"], f"{before}[]")
        return
    prefix = f"{before}." if before else ""
    for name, inner in schema.get("properties", {}).items():
        yield f"| `{prefix}{name}` | {_type(inner)} | {inner.get('description', '')} |"
        known = inner["anyOf"][0] if "anyOf" in inner else inner
        if known.get("properties") or known.get("type") == "array":
            yield from _rows(known, prefix + name)
        elif isinstance(known.get("additionalProperties"), dict):
            yield from _rows(known["additionalProperties"], f"{prefix}{name}.NAME")


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return f"{_type(schema['anyOf'][0])} or null"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    more = schema.get("additionalProperties")
    return f"{_type(more)} by name" if isinstance(more, dict) else kind
