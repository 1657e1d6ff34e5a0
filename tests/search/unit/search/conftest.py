from __future__ import annotations

from dataclasses import replace

import pytest

from support.schedulers import metrics
from vitsearch.core.record import Record


@pytest.fixture
def confirmed(plan):
    """Makes records of trained models."""

    def make(accuracy, ms, **more):
        return replace(Record("confirmed", plan, metrics=metrics(accuracy=accuracy, cpu_ms_p50=ms), rung=1), **more)

    return make
