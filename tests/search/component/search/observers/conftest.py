"""A small study whose runs are observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest


@pytest.fixture
def run_with(make_study) -> Callable:
    """Runs a study with one training, reporting to an observer; again, when it is called again."""
    study = make_study(trials=1)

    def run(observer, **changes):
        observed = replace(study, progress=observer, **changes)
        observed.run()
        return observed

    return run
