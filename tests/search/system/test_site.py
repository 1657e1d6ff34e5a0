"""The documentation site: what is generated for it, and links between pages."""

from __future__ import annotations

import importlib.util
import json
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
