"""A report, and the browser that shows it. What needs the browser is skipped where there is none, but not in CI."""

from __future__ import annotations

import os

import pytest

from support.browser import ARGUMENTS, CHROMIUM, opened
from vitsearch.report.data import read_report
from vitsearch.report.page import page


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def data(finished):
    with finished.opened() as (study, ledger):
        return read_report(study, ledger, "fake")


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(data.to_json(), live=False))
    return path


@pytest.fixture
def tab(browser, file):
    with opened(browser, file) as (tab, complaints):
        yield tab
        assert complaints == []
