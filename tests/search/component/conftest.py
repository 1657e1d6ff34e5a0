"""The same random weights in every run and in any order of the tests."""

from __future__ import annotations

import sys

import pytest


def seed_torch() -> None:
    if "torch" in sys.modules:  # importing it takes seconds, and most tests draw nothing
        sys.modules["torch"].manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed what fixtures of a module or of the session draw."""
    seed_torch()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed what fixtures of a test and the test itself draw, whichever wider fixtures were made before."""
    seed_torch()
