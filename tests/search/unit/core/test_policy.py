"""Each constant of the policy has a reason, and a benchmark that exists or none."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest

from support import REPOSITORY
from vitsearch.core.policy import BENCHMARK, POLICY, WHY

GROUPS = [getattr(POLICY, group.name) for group in fields(POLICY)]
RULES = [(group, rule) for group in GROUPS for rule in fields(group)]


@pytest.mark.parametrize(("group", "rule"), RULES, ids=lambda value: getattr(value, "name", type(value).__name__))
def test_a_constant_has_a_reason_in_a_sentence_and_a_benchmark_that_exists(group, rule):
    assert rule.metadata[WHY].endswith(".")
    assert Path(REPOSITORY, rule.metadata[BENCHMARK]).exists()
    assert rule.default == getattr(group, rule.name)


def test_nothing_of_the_policy_can_be_changed():
    assert all(map(is_dataclass, GROUPS))
    with pytest.raises(FrozenInstanceError):
        POLICY.ending = None
    for group, rule in RULES:
        with pytest.raises(FrozenInstanceError):
            setattr(group, rule.name, 0)
