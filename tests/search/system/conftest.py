"""What several system tests share: a browser, and a study that is made once for all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from support import PYTHON_PATH, REPOSITORY
from support.browser import ARGUMENTS, CHROMIUM

UNPRUNED = (
    "study=unpruned",
    "search.trials=0",
    "space.backbone=efficientvit_fmnist",
    "baseline.backbone=efficientvit_fmnist",
    "space.resolution=28",
    "space.backend=onnxruntime",
    "space.quantization=[fp32, int8_ptq]",
)
"""The smallest search of the quickstart: the trained base of a family, in two precisions."""


@pytest.fixture(scope="module")
def browser():
    """Chromium. What needs it is skipped where there is none, but not in CI."""
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def unpruned_once(tmp_path_factory) -> Path:
    """The folder of the study `unpruned`, made by the first worker that needs it. To be copied."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "unpruned"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            making = folder.with_suffix(".part")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
            command = [sys.executable, "-m", "support.quick_search", "run", f"{REPOSITORY}/spaces/quickstart.yaml"]
            done = subprocess.run([*command, *UNPRUNED], cwd=making, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            making.rename(folder)
    return folder


@pytest.fixture(scope="module")
def unpruned(unpruned_once, tmp_path_factory) -> Path:
    """A copy of a finished study of real models, `studies/unpruned.db`, with short measurements."""
    folder = tmp_path_factory.mktemp("unpruned") / "copy"
    shutil.copytree(unpruned_once, folder)
    return folder
