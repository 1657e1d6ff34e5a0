"""Pages of the documentation site that are generated, and links between pages that lie all over the repository."""

from __future__ import annotations

import argparse
import inspect
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import vitsearch
from vitsearch import errors
from vitsearch_agent import errors as agent_errors
from vitsearch_agent.cli import parser as agent_app

PLACES = {
    "README.md": "index.md",
    "evaluators/README.md": "agent/index.md",
    "evaluators/INSTALL.md": "agent/install.md",
    "examples/README.md": "examples/index.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Pages outside of docs/: their place in the repository, and in the site."""
EXAMPLE = re.compile(r"^\[[^\]]+\]\((?P<path>\S+\.(?P<kind>py|yaml|toml))\)$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def place_of(path: str) -> str | None:
    """Where a file of the repository lies in the site; None for what is no part of it."""
    if path in PLACES:
        return PLACES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def with_examples(markdown: str, source: str, repository: Path) -> str:
    """A page in which each paragraph that is only a link to a file of `examples/` is that file."""

    def included(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        if not path.startswith("examples/"):
            return link[0]
        return f'```{link["kind"]} title="{path}"\n{(repository / path).read_text().rstrip()}\n```'

    return EXAMPLE.sub(included, markdown)


def with_site_links(markdown: str, source: str) -> str:
    """A page whose links to files of the repository lead to pages of the site. `source` is its place in the
    repository. A link to a file that is no page becomes the name of that file."""

    def moved(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = place_of(path)
        if place is None:
            return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"
        here = place_of(source)
        assert here is not None
        return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(moved, markdown)


# ---- the space file


def space_file(schema: Mapping[str, Any]) -> str:
    """The reference of space files, from their JSON Schema."""
    parts = [f"# Space file\n\n{schema['description']} `vitsearch schema` prints the JSON Schema for an editor.\n"]
    parts.append(_keys("", schema, schema))
    for path, name in _sections(schema, schema, ""):
        section = schema["$defs"][name]
        parts.append(f"## `{path}`\n\n{_text(section.get('description', ''))}\n\n{_keys(path + '.', section, schema)}")
    return "\n".join(parts)


def _sections(part: Mapping[str, Any], schema: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    """The keys that hold keys of their own, with the definition of each, from the top down."""
    for key, value in part.get("properties", {}).items():
        for name in _definitions(value):
            path = f"{above}{key}"
            if "properties" in schema["$defs"][name]:
                yield path, name
                yield from _sections(schema["$defs"][name], schema, path + ".")


def _definitions(value: Any) -> list[str]:
    found = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(value))
    return list(dict.fromkeys(found))


def _keys(above: str, part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    rows = ["| key | takes | default | |", "|---|---|---|---|"]
    for key, value in part["properties"].items():
        default = "" if value.get("default") in (None, [], {}) or "$ref" in value else f"`{_default(value['default'])}`"
        names = [name for name in _definitions(value) if "properties" in schema["$defs"][name] and "$ref" in value]
        text = value.get("description") or (schema["$defs"][names[0]].get("description", "") if names else "")
        rows.append(f"| `{above}{key}` | {_kind(value, schema)} | {default} | {_text(text)} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


def _kind(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return "keys of its own" if "properties" in schema["$defs"][name] else _kind(schema["$defs"][name], schema)
    for word in ("oneOf", "anyOf"):
        if word in value:
            kinds = [_kind(one, schema) for one in value[word] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = value.get("type", "")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"a list of {_kind(value.get('items', {}), schema)}"
    if kind in ("integer", "number"):
        return f"{kind}{_range(value)}"
    words = {"object": "keys and values", "string": "text", "boolean": "true or false"}
    return str(words.get(kind, kind or "anything"))


def _range(value: Mapping[str, Any]) -> str:
    low = value.get("minimum", value.get("exclusiveMinimum"))
    high = value.get("maximum", value.get("exclusiveMaximum"))
    if low is not None and high is not None and high < 1_000_000:
        return f" from {low:g} to {high:g}"
    return f" from {low:g}" if low is not None else ""


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# ---- the Python API


API = (
    *(f"{home}.{name}" for name, home in vitsearch._HOMES.items()),
    "vitsearch.api.StoredStudy",
    "vitsearch.study.front.Front",
    "vitsearch.study.front.Point",
    "vitsearch.study.front.Evaluated",
    "vitsearch.core.figures.Figure",
    "vitsearch.core.plan.Compression",
    "vitsearch.core.plan.Recipe",
    "vitsearch.core.plan.Augmentation",
    "vitsearch.core.plan.Deployment",
    "vitsearch.ship.ship.ShipOptions",
    "vitsearch.ship.ship.Bundle",
    "vitsearch.testing.fakes.FakeRunner",
    "vitsearch.testing.fakes.FakeDevice",
    "vitsearch.tune",
    "vitsearch.errors",
)
"""The names of docs/python_api.md, and the values that they take and return."""
PLUGINS = {
    "A family of backbones": (
        "vitsearch.models.backbone",
        "vitsearch.backbones.timm_family.TimmFamily",
        "vitsearch.testing.families.BackboneTestCase",
        "vitsearch.testing.families.VariantTestCase",
    ),
    "An exporter": ("vitsearch.export.base", "vitsearch.testing.exporters.ExporterTests"),
    "A runtime on the device": (
        "vitsearch_agent.runtimes.base",
        "vitsearch_agent.runtimes.tools.tool_runtime",
        "vitsearch_agent.testing.RuntimeTestCase",
    ),
    "A power meter": ("vitsearch_agent.power.base", "vitsearch_agent.testing.PowerMeterTestCase"),
    "A task": ("vitsearch.tasks.base", "vitsearch.testing.tasks.TaskTests"),
    "An observer of runs": ("vitsearch.search.observers.base", "vitsearch.testing.observers.ObserverTests"),
    "Names and entry points": ("vitsearch.registry",),
}
"""What CONTRIBUTING.md says how to add, and the modules and classes that a plugin builds on."""
_WITHOUT_TESTS = "    options: {filters: ['!^_', '!^test_']}\n"


def api() -> str:
    """What `vitsearch` exports, for mkdocstrings to fill in."""
    head = "# Python API\n\n[From Python](../python_api.md) shows how the parts belong together.\n"
    return "\n".join([head, *(f"::: {name}\n" for name in API)])


def plugins() -> str:
    """The classes that plugins subclass, for mkdocstrings to fill in."""
    parts = ["# Plugins\n\n[Contributing](../project/contributing.md) has the steps for each kind of plugin.\n"]
    for kind, names in PLUGINS.items():
        parts += [f"## {kind}\n", *(f"::: {name}\n{_WITHOUT_TESTS}" for name in names)]
    return "\n".join(parts)


# ---- commands


def commands(program: str, group: Any) -> str:
    """Every command of a group of Typer's, with its arguments and options."""
    parts = [f"# `{program}`\n\n{_text(group.help or '')}\n"]
    parts += [_command(name, command) for name, command in _leaves(program, group)]
    return "\n".join(parts)


def _leaves(above: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _leaves(f"{above} {name}", command)
        elif not command.hidden:
            yield f"{above} {name}", command


def _command(name: str, command: Any) -> str:
    usage = " ".join(one.metavar or one.name for one in command.params if one.param_type_name == "argument")
    rows = [f"| `{_flags(one)}` | {_text(getattr(one, 'help', None) or '')} |" for one in command.params]
    table = "\n".join(["| | |", "|---|---|", *rows]) + "\n" if rows else ""
    text = _text(inspect.cleandoc(command.help or ""))
    return f"## `{name}`\n\n```\n{name} {usage}\n```\n\n{text}\n\n{table}"


def _flags(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name)
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def agent_commands() -> str:
    """Every command of the agent, as its help says it."""
    parts = ["# `vitsearch-agent`\n"]
    for action in agent_app.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, parser in action.choices.items():
                parts.append(f"## `vitsearch-agent {name}`\n\n```\n{parser.format_help().rstrip()}\n```\n")
    return "\n".join(parts)


# ---- errors


SEARCH_LINE = re.compile(r"^\W*(\w+)\s+exit (\d)\s+(.+)$", re.MULTILINE)
AGENT_LINE = re.compile(r"^[ |`-]*-- (\w+)\s+(transient|\(\w+\))?\s+(\S.+)$", re.MULTILINE)


def error_reference() -> str:
    """Every error that a user may read, from the trees at the head of both modules of errors."""
    search = SEARCH_LINE.findall(inspect.getdoc(errors) or "")
    agent = AGENT_LINE.findall(inspect.getdoc(agent_errors) or "")
    return "\n".join(
        [
            "# Errors",
            "",
            "A message says what happened, where, which value was seen and what is allowed.",
            "",
            "## Of the search",
            "",
            "A command that worked ends with status 0, one that Ctrl-C ended with 130, a wrong command line with 2.",
            "`vitsearch front` ends with 1 when there is no model to show.",
            "",
            "| error | exit status | |",
            "|---|---|---|",
            *(f"| `{name}` | {status} | {_text(text)} |" for name, status, text in search),
            "",
            "## Of the device agent",
            "",
            "Where a repetition may help, clients repeat by themselves, and no trial fails.",
            "",
            "| error | repeated | |",
            "|---|---|---|",
            *(f"| `{name}` | {'yes' if kind == 'transient' else 'no'} | {_text(text)} |" for name, kind, text in agent),
            "",
        ]
    )
