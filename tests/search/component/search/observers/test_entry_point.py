"""The observer of docs/observability.md, installed as a package of its own, passes its own conformance test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support import PYTHON_PATH, REPOSITORY

PAGE = Path(REPOSITORY, "docs", "observability.md")
PYTHON = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
TOML = re.compile(r"```toml\n(.*?)```", re.DOTALL)


@pytest.fixture
def installed(tmp_path):
    """The folder of the package, as pip installs it: its modules beside a folder with its entry points."""
    for name, code in PYTHON.findall(PAGE.read_text()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    (project,) = TOML.findall(PAGE.read_text())
    lines = []
    for group, points in tomllib.loads(project)["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info := tmp_path / "my_observers-1.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-observers\nVersion: 1\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def python(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), PYTHON_PATH])
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.long
def test_the_observer_of_the_page_passes_its_conformance_test(installed):
    (installed / "pytest.ini").write_text("[pytest]\n")
    done = python(installed, "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed, 1 skipped" in done.stdout


OBSERVED_RUN = """
from pathlib import Path

from vitsearch.pipeline.progress import Silent
from vitsearch.search.observers.observe import Observing, observed
from vitsearch.space import SearchSpace
from vitsearch.testing.observers import CONFIRMED, FRONT

space = SearchSpace.from_json({
    "study": "mine",
    "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
    "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
    "space": {"backbone": [{"name": "fake_vit", "weights": "builtin"}], "resolution": 28},
})
with observed(Silent(), space, Path("logs"), Observing(observers={"lines": "trials.txt"})) as observers:
    observers.progress.ended(7, CONFIRMED)
    observers.finished(lambda: FRONT)
"""


def test_a_run_reports_to_an_observer_of_another_package(installed):
    done = python(installed, "-c", OBSERVED_RUN)
    assert done.returncode == 0, done.stderr
    assert (installed / "trials.txt").read_text() == "7 confirmed 0.9\n"
