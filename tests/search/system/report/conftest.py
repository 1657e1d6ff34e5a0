"""A report, and the browser that shows it."""

from __future__ import annotations

import pytest

from support.browser import opened
from vitsearch.report.data import read_report
from vitsearch.report.page import page


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
