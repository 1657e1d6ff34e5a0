"""The forms of everything that `--json` prints, as JSON Schemas. `vitsearch schema COMMAND` prints one of them.

Each form is that of a frozen value, by pydantic; what stands under a field describes it. `docs/json.md` is made from
them: `python -m vitsearch.cli.json_forms > docs/json.md`. Tests hold what the commands print against the forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from types import GenericAlias
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from vitsearch.errors import UnknownName

Schema = dict[str, Any]
DEFINITIONS = "#/$defs/"


@dataclass(frozen=True)
class JsonForm:
    """What a command prints with `--json`: a value of the type `MODULE:NAME`, or a list of such."""

    command: str
    text: str
    type_name: str
    is_list: bool = False

    def schema(self) -> Schema:
        """The JSON Schema of the command's output. Imports the command's libraries."""
        module, _, name = self.type_name.partition(":")
        value: Any = getattr(import_module(f"vitsearch.{module}"), name)
        schema = _schema_of_list(value)
        definitions = schema.pop("$defs", {})
        if self.is_list:
            return schema | {"$defs": definitions}
        item: Schema = schema["items"]
        root = definitions.pop(item["$ref"].removeprefix(DEFINITIONS)) if "$ref" in item else item
        return {**root, "$defs": definitions} if definitions else root


def _schema_of_list(value: Any) -> Schema:
    """The schema of a list of values: pydantic gives a dataclass of the standard library the configuration of what it
    is in."""
    kind: Any = GenericAlias(list, value)
    adapter: TypeAdapter[Any] = TypeAdapter(kind, config=ConfigDict(use_attribute_docstrings=True))
    return adapter.json_schema(mode="serialization", schema_generator=_PrintedSchema)


class _PrintedSchema(GenerateJsonSchema):
    """Exactly the fields of a value, all of them printed, without what is of interest in Python alone."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        value = super().dataclass_schema(schema)
        for base in filter(is_dataclass, schema["cls"].__mro__[1:]):  # pydantic reads the texts of the class alone
            for name, field in _schema_of_list(base)["$defs"][base.__name__]["properties"].items():
                value["properties"][name].setdefault("description", field.get("description", ""))
        return {key: text for key, text in value.items() if key != "title"} | {"additionalProperties": False}

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


FORMS: Mapping[str, JsonForm] = {
    form.command: form
    for form in (
        JsonForm("run", "When the run has ended. Its progress goes to standard error.", "cli.printed:PrintedRun"),
        JsonForm("check", "A space file without problems.", "search.check.printed:PrintedCheck"),
        JsonForm("status", "The state of a study.", "study.status:Status"),
        JsonForm("front", "The models that are shown.", "study.printed.models:PrintedSelection"),
        JsonForm("show", "One model in full.", "study.printed.details:PrintedDetail"),
        JsonForm("compare", "Two models.", "study.printed.details:PrintedComparison"),
        JsonForm("explain", "What each knob did.", "study.printed.effects:PrintedExplanation"),
        JsonForm(
            "retarget",
            "The models of a study on another device. Progress goes to standard error.",
            "study.printed.models:PrintedRetargeting",
        ),
        JsonForm("ship", "The bundle that was written.", "ship.ship:PrintedBundle"),
        JsonForm("verify", "What was checked.", "cli.printed:PrintedVerification"),
        JsonForm("plan", "The plan with everything filled in.", "study.printed.models:PlanJson"),
        JsonForm("capabilities --try", "One entry for each backbone.", "core.backbone_check:BackboneCheck", True),
        JsonForm("doctor", "This machine and each known device.", "cli.doctor:PrintedDoctor"),
        JsonForm("studies list", "One entry for each database.", "search.admin.housekeeping:PrintedDatabase", True),
        JsonForm("studies delete", "What was deleted.", "cli.printed:PrintedDeletion"),
        JsonForm("studies clean", "What was freed.", "cli.printed:PrintedCleaning"),
        JsonForm(
            "studies verify",
            "One entry for each damage; the exit code is 1 if there is any.",
            "search.admin.verifying:StoredDamage",
            True,
        ),
        JsonForm("db prepare", "Whether the tables were made.", "study.database.opening:Prepared"),
        JsonForm("db copy", "What was added to the other database.", "search.admin.copying:Copied"),
        JsonForm("install-converter", "The converter.", "cli.printed:PrintedConverter"),
        JsonForm("devices list", "One entry for each known device.", "cli.printed:PrintedDevice", True),
        JsonForm("devices add", "The device as list shows it.", "cli.printed:PrintedDevice"),
        JsonForm("devices remove", "The device that was removed.", "cli.printed:PrintedRemoval"),
        JsonForm(
            "devices status",
            "What the agent reports (evaluators/README.md), with the queue.",
            "cli.printed:StatusJson",
        ),
        JsonForm("devices describe", "A description that 'check --as FILE' reads.", "cli.printed:DescriptionJson"),
        JsonForm("devices peaks", "Peaks for a roofline.", "cli.printed:PeaksJson"),
        JsonForm("devices accept", "The device that is the same as before.", "cli.printed:PrintedAcceptance"),
        JsonForm("devices cancel", "The job that was cancelled.", "cli.printed:PrintedJob"),
    )
}


def json_form(command: str) -> Schema:
    """The JSON Schema of what a command prints. Raises `UnknownName` with those that print
    JSON."""
    if command not in FORMS:
        raise UnknownName("command with --json", command, FORMS)
    form = FORMS[command]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"vitsearch {command} --json"}
    return head | form.schema() | {"description": form.text}


def page() -> str:
    """The text of `docs/json.md`."""
    lines = [
        "# What `--json` prints",
        "",
        "With `--json` every command that has results prints them and nothing else on standard output; messages go to",
        "standard error. `devices describe` always prints JSON and has no `--json`; `capabilities` has it only with",
        "`--try`. `vitsearch schema COMMAND` prints the JSON Schema of a command, such as `vitsearch schema front`.",
        "Names of metrics carry their units; what was not measured is `null` with a reason.",
        "This page is made from these schemas, and tests hold the output of the commands against them.",
        "",
    ]
    for form in FORMS.values():
        lines += [f"## vitsearch {form.command}", "", form.text, ""]
        schema = form.schema()
        if rows := list(_Table(schema.get("$defs", {})).rows(schema, "")):
            lines += ["| field | type | meaning |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Table:
    """The fields of a schema with these `definitions`."""

    definitions: Mapping[str, Schema]

    def rows(self, schema: Schema, before: str) -> Iterator[str]:
        """A row for each field; those of inner objects are written `points[].trial`, `models.params_m.low`. Of a value
        that is one of several objects, the fields of all."""
        kinds = schema.get("anyOf", [schema])
        yield from dict.fromkeys(row for kind in kinds for row in self._rows_of(self._value(kind), before))

    def _rows_of(self, schema: Schema, before: str) -> Iterator[str]:
        more = schema.get("additionalProperties")
        if schema.get("type") == "array":
            yield from self.rows(schema["items"], f"{before}[]") if "items" in schema else ()
        elif isinstance(more, dict):
            yield from self.rows(more, f"{before}.NAME")
        prefix = f"{before}." if before else ""
        for name, field in schema.get("properties", {}).items():
            meaning = " ".join(field.get("description", "").split())
            yield f"| `{prefix}{name}` | {self._type(field)} | {meaning} |"
            yield from self.rows(field, prefix + name)

    def _value(self, schema: Schema) -> Schema:
        """The schema, where it may be null that of the value."""
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        return self.definitions[schema["$ref"].removeprefix(DEFINITIONS)] if "$ref" in schema else schema

    def _type(self, schema: Schema) -> str:
        if "anyOf" in schema:
            return " or ".join(dict.fromkeys(map(self._type, schema["anyOf"])))
        schema = self._value(schema)
        if "enum" in schema:
            return ", ".join(f"`{word}`" for word in schema["enum"])
        if schema.get("type") == "array":
            return f"list of {self._type(schema.get('items') or schema['prefixItems'][0])}"
        more = schema.get("additionalProperties")
        return f"{self._type(more)} by name" if isinstance(more, dict) else schema.get("type", "object")


if __name__ == "__main__":
    print(page(), end="")
