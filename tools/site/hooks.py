"""Hooks of mkdocs: pages that lie outside of docs/, and those that are generated from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / name) for name in ("tools/site", "tools", "search", "evaluators")]

import pages  # noqa: E402 - from the folder above
import variants_page  # noqa: E402 - from tools/

from vitsearch.cli.app import app  # noqa: E402 - of this clone
from vitsearch.space import json_schema  # noqa: E402

GENERATED: dict[str, Callable[[], str]] = {
    "reference/space_file.md": lambda: pages.space_file(json_schema()),
    "reference/commands.md": lambda: pages.commands("vitsearch", typer.main.get_group(app)),
    "reference/agent_commands.md": pages.agent_commands,
    "reference/errors.md": pages.error_reference,
    "reference/api.md": pages.api,
    "reference/plugins.md": pages.plugins,
    "reference/models.md": lambda: "\n".join(variants_page.all_names(variants_page.results())),
}
SOURCES = {place: path for path, place in pages.PLACES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for place, path in SOURCES.items():
        files.append(File.generated(config, place, content=(REPOSITORY / path).read_text()))
    for place, make in GENERATED.items():
        files.append(File.generated(config, place, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = page.file.src_uri
    if place in GENERATED:
        return markdown
    source = SOURCES.get(place, f"docs/{place}")
    return pages.with_site_links(pages.with_examples(markdown, source, REPOSITORY), source)
