"""The documentation site: what is generated for it, and links between pages."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest
import typer

from support import REPOSITORY
from vitsearch import errors
from vitsearch.cli.app import app
from vitsearch.space import SearchSpace, json_schema


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("pages", Path(REPOSITORY, "tools", "site", "pages.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys_of(model, above=""):
    """The keys of a space file as its own model has them, without those of lists and choices."""
    for name, info in model.model_fields.items():
        yield f"{above}{info.alias or name}"


def test_the_reference_has_every_key_of_the_schema(pages):
    text = pages.space_file(json_schema())
    for name, part in json_schema()["$defs"].items():
        for key in part.get("properties", {}):
            assert f".{key}`" in text, f"{name}.{key}"
    for key in keys_of(SearchSpace):
        assert f"| `{key}` |" in text


def test_the_reference_says_what_a_key_takes(pages):
    text = pages.space_file(json_schema())
    assert "| `search.seed` | integer from 0 | `0` | Seed of the sampler and of the fine-tuning. |" in text
    assert "| `search.sampler` | `auto`, `gp`, `tpe`, `nsga2`, `random` | `auto` |" in text


def test_every_command_has_its_section(pages):
    text = pages.commands("vitsearch", typer.main.get_group(app))
    assert "## `vitsearch run`\n\n```\nvitsearch run SPACE KEY=VALUE\n```" in text
    assert "## `vitsearch devices add`" in text
    assert "## `vitsearch-agent measure`" in pages.agent_commands()


def test_every_error_has_its_line(pages):
    text = pages.error_reference()
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, errors.VitsearchError):
            assert f"| `{one.__name__}` | {one.exit_code} | " in text
    assert "| `DeviceUnreachable` | yes | no answer: network, reboot, agent restart |" in text


@pytest.mark.parametrize(
    ("markdown", "source", "expected"),
    [
        ("[a](docs/operators.md#x)", "README.md", "[a](operators.md#x)"),
        ("[a](../README.md)", "docs/operators.md", "[a](index.md)"),
        ("[a](../../ARCHITECTURE.md)", "docs/decisions/0001-x.md", "[a](../project/architecture.md)"),
        ("![a](flow.svg)", "docs/operators.md", "![a](flow.svg)"),
        ("[the file](spaces/quickstart.yaml)", "README.md", "the file (`spaces/quickstart.yaml`)"),
        ("[`LICENSE`](LICENSE)", "README.md", "`LICENSE`"),
        ("[a](#here)", "README.md", "[a](#here)"),
    ],
)
def test_links_lead_to_pages_of_the_site(pages, markdown, source, expected):
    assert pages.with_site_links(markdown, source) == expected


def test_a_paragraph_that_is_a_link_to_an_example_is_the_example(pages, tmp_path):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.py").write_text("a = 1\n")
    linked = "See:\n\n[examples/a.py](../examples/a.py)\n\nAnd [a](../examples/a.py), [b](../b.py).\n\n[b](../b.py)\n"
    shown = linked.replace("[examples/a.py](../examples/a.py)", '```py title="examples/a.py"\na = 1\n```')
    assert pages.with_examples(linked, "docs/a.md", tmp_path) == shown


def test_every_page_has_its_place(pages):
    nav = json.dumps(Path(REPOSITORY, "mkdocs.yml").read_text())
    lying = [path.relative_to(Path(REPOSITORY, "docs")) for path in Path(REPOSITORY, "docs").rglob("*.md")]
    assert [str(path) for path in lying if str(path) not in nav] == []
    assert [place for place in pages.PLACES.values() if place not in nav] == []


def documented(name):
    """What the reference shows under a name: functions and classes of a module, methods of a class. It leaves out what
    has no docstring; all that a plugin has to define must have one."""
    try:
        shown = importlib.import_module(name)
    except ModuleNotFoundError:
        home, _, attribute = name.rpartition(".")
        yield from members(name, getattr(importlib.import_module(home), attribute))
        return
    for attribute, value in vars(shown).items():
        if not attribute.startswith("_") and getattr(value, "__module__", "").startswith(name):
            yield from members(f"{name}.{attribute}", value)


def members(name, value):
    if inspect.isfunction(value):
        yield name, value
    elif inspect.isclass(value):
        yield name, value
        for attribute, method in vars(value).items():
            method = getattr(method, "__func__", method)  # of a class method
            is_required = getattr(value, "_is_protocol", False) or getattr(method, "__isabstractmethod__", False)
            is_shown = not attribute.startswith(("_", "test_")) and inspect.isfunction(method)
            if is_shown and (is_required or method.__doc__):
                yield f"{name}.{attribute}", method


def lacks(function):
    """The sections and arguments that the docstring of a function does not have."""
    text = inspect.getdoc(function) or ""
    described = {"self", "cls", *re.findall(r"^    \*{0,2}(\w+):", text, re.MULTILINE)}
    lacking = [name for name in inspect.signature(function).parameters if name not in described]
    returns = function.__annotations__.get("return", "None")
    has_returns = re.search(r"^(Returns|Yields):$", text, re.MULTILINE)
    return lacking if has_returns or str(returns) == "None" else [*lacking, "Returns"]


def test_public_names_say_what_they_take_and_return(pages):
    names = [*pages.API, *(name for names in pages.PLUGINS.values() for name in names)]
    parts = {name: value for shown in names for name, value in documented(shown)}
    functions = {name: lacks(value) for name, value in parts.items() if inspect.isfunction(value)}
    assert {name: lacking for name, lacking in functions.items() if lacking} == {}
    dataclasses = {name: f"{value.__name__}(" for name, value in parts.items()}  # what they make of their fields
    assert [name for name, value in parts.items() if (value.__doc__ or "(").startswith(("(", dataclasses[name]))] == []
    assert len(parts) > 100
