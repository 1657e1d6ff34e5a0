"""The browser of the system tests."""

from __future__ import annotations

import os

import pytest

from support.browser import ARGUMENTS, CHROMIUM


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
