"""Each target has all of its facts, here and in the agent."""

from __future__ import annotations

import pytest

from vitsearch.core.targets import TARGETS, default_runtime
from vitsearch.testing.targets import TargetTests


class TestOfEachTarget(TargetTests):
    @pytest.fixture(autouse=True, params=list(TARGETS))
    def named(self, request, monkeypatch):
        monkeypatch.setattr(type(self), "runtime", request.param, raising=False)


def test_each_has_a_place_of_its_own():
    places = [target.place for target in TARGETS.values()]
    assert places == sorted(set(places))
    assert default_runtime() == "onnxruntime"
