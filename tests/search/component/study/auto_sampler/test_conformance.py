"""Optuna's own tests of samplers."""

from __future__ import annotations

import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from vitsearch.study.auto_sampler import AutoSampler


class TestAutoSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        """With a model from the second trial on: most of these tests run only one or two before they ask."""
        return lambda: AutoSampler(seed=0, startup_trials=1)
