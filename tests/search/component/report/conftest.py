"""The report of a study that has run with the fakes."""

from __future__ import annotations

import pytest

from vitsearch.report.data import read_report


@pytest.fixture(scope="session")
def report(finished):
    with finished.opened() as (study, ledger):
        return read_report(study, ledger, "fake")
