"""The pages under docs/: their code runs, and the files that they name exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import support
from support import PYTHON_PATH
from vitsearch import backbones, data
from vitsearch.errors import DataError
from vitsearch.space import check, load

REPOSITORY = Path(support.REPOSITORY)
AGENT_PAGES = sorted((REPOSITORY / "evaluators").glob("*.md"))
BENCHMARKS = REPOSITORY / "benchmarks" / "README.md"
EXAMPLES = REPOSITORY / "examples" / "README.md"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md")), *AGENT_PAGES]
PAGES += [BENCHMARKS, EXAMPLES]
README_WORDS = 1200
SCREEN_LINES = 45
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)|src=\"([^\":]+)\"")
YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
MODULE = re.compile(r"`((?:\w+/)+\w+\.py)`")
HOMES = (".", "search", "evaluators", "search/vitsearch", "evaluators/vitsearch_agent", "search/vitsearch/search")
"""Where pages let the paths of modules begin."""

PIP = re.compile(r"pip\s+install\s+((?:[^`#\n]|\\\n)*)")
EXTRAS = re.compile(r"vitsearch\S*?\[([\w,]+)\]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    named = [page.parent / (first or second) for first, second in LINK.findall(page.read_text())]
    assert [str(path) for path in named if not path.exists()] == []


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().split()) <= README_WORDS


def test_each_page_of_the_benchmarks_answers_a_question_on_one_screen():
    """The summary of all is one screen, too, and names each page by its question."""
    summary = BENCHMARKS.read_text()
    assert len(summary.splitlines()) <= SCREEN_LINES
    for page in (REPOSITORY / "docs" / "benchmarks").glob("*.md"):
        title, answer = page.read_text().split("\n\n")[:2]
        assert title.endswith("?")
        assert len(answer.splitlines()) <= 4
        assert f"[{title.removeprefix('# ')}](../docs/benchmarks/{page.name})" in summary


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_exist(page):
    shapes = {path: path.replace("NAME", "*") for path in MODULE.findall(page.read_text())}
    there = {path for path, shape in shapes.items() for home in HOMES if any((REPOSITORY / home).glob(shape))}
    assert sorted(shapes.keys() - there) == []


def test_what_is_installed_without_a_release_needs_no_package_index():
    """Where vitsearch is there, pip takes `vitsearch[EXTRA]` from what is installed. On a device the agent may be one
    file, so what is installed there are the runtimes themselves."""
    shipped = [*PAGES, *sorted((REPOSITORY / "spaces").glob("*.yaml")), *(REPOSITORY / "docs" / "examples").iterdir()]
    asked = [line for path in shipped for line in PIP.findall(path.read_text())]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = {extra for line in asked for found in EXTRAS.findall(line) for extra in found.split(",")}
    assert extras <= set(project["optional-dependencies"])
    ours = [word.strip("\"'") for line in asked for word in line.split() if "vitsearch" in word and ".whl" not in word]
    assert [word for word in ours if not re.fullmatch(r"vitsearch\[[\w,]+\]", word)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_space_files_in_a_page_are_valid(page, tmp_path):
    for number, text in enumerate(text for text in YAML.findall(page.read_text()) if "\ntask:" in text):
        path = tmp_path / f"space_{number}.yaml"
        path.write_text(text)
        assert check(load(path, []), backbones.supports) == []


def test_the_folder_of_the_tutorial_has_the_problems_that_it_describes(tmp_path):
    root = tmp_path / "clothes"
    made = [sys.executable, str(REPOSITORY / "tools" / "make_example_folder.py"), str(root)]
    subprocess.run(made, check=True, env=os.environ | {"PYTHONPATH": PYTHON_PATH})
    spec = data.DataSpec.from_json({"source": "folder", "root": str(root), "image_size": 64, "channels": 1})
    with pytest.raises(DataError) as caught:
        data.load(spec, tmp_path / "cache")
    message = str(caught.value)
    for problem in ("no images in 'Hat'", "cut short.jpg", "page.png: not an image"):
        assert problem in message
        assert problem in (REPOSITORY / "docs" / "your_own_folder.md").read_text()
    (root / "Hat").rmdir()
    for name in ("cut short.jpg", "page.png"):
        (root / "Ankle boot" / name).unlink()
    images = data.load(spec, tmp_path / "cache")
    assert len(images.train) + len(images.validation) == 600
    assert "T-shirt or top" in images.class_names


SMALLEST_SEARCH = (
    "search.trials=1",
    "search.candidates=1",
    "space.backbone=vit_fmnist_p4",
    "space.resolution=28",
    "space.backend=onnxruntime",
    "space.quantization=[fp32, int8_ptq]",
    "task.fine_tune.images_per_epoch=256",
)


def small(code: str) -> str:
    """Code that searches on one backbone in two precisions with one short training; the rest is its own."""
    overrides = ", ".join(f'"{override}"' for override in SMALLEST_SEARCH)
    space = str(REPOSITORY / "spaces" / "quickstart.yaml")
    return code.replace('"search.trials=3"', overrides).replace("spaces/quickstart.yaml", space)


@pytest.mark.long
def test_the_notebook_goes_from_a_space_file_to_a_verified_bundle(tmp_path):
    """In a kernel, whose loop runs while a cell does."""
    notebook = nbformat.read(REPOSITORY / "docs" / "whole_way.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = small(cell.source)
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment)
    said = "\n".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "1 plan trained" in said
    assert re.search(r"^passed +accuracy .* every image gets the same class as when shipped$", said, re.MULTILINE), said
