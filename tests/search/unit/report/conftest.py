"""Trials as the report shows them."""

from __future__ import annotations

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.report.trials import ShownTrial


@pytest.fixture
def trial(plan):
    """trial(3, "front", accuracy=0.9, cpu_ms_p50=1.0); other fields by their names."""

    def make(number, group, intervals=None, accuracy=None, cpu_ms_p50=None, **fields):
        metrics = Metrics.of({"accuracy": accuracy, "cpu_ms_p50": cpu_ms_p50}, intervals)
        return ShownTrial(
            **{"number": number, "plan": plan, "metrics": metrics, "group": group, "outcome": "confirmed"} | fields
        )

    return make
