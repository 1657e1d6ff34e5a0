"""The plans of a small space that nobody has asked for yet."""

from __future__ import annotations

import random

import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.search.untried import UntriedPlans
from vitsearch.space import SearchSpace
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace

SPACE = {
    "study": "small",
    "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
    "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
    "space": {
        "backbone": [{"name": "vit", "weights": "builtin"}],
        "resolution": [28],
        "head_pruning_ratio": [0.0, 0.5],
        "pruning_scope": ["uniform", "global"],
        "quantization": ["fp32", "int8_dynamic"],
    },
}


@pytest.fixture
def parameters():
    plans = PlanSpace(SearchSpace.from_json(SPACE), "local", lambda *_: None, lambda backbone: ImageSize.square(28))
    return PlanParameters(plans)


@pytest.fixture
def plans(parameters):
    return {parameters.plan(each) for each in parameters.all()}


def test_plans_are_left_until_each_has_ended_or_runs(parameters, plans):
    space, (last, *others) = UntriedPlans(parameters), plans
    assert space.count == len(plans) == 6
    assert space.are_left(set(others), set())
    assert not space.are_left(set(others), {last})
    assert space.are_left(set(others), set()), "its run was lost"
    assert not space.are_left(plans, set())


def test_a_plan_is_drawn_from_those_that_are_left(parameters, plans):
    space, rng = UntriedPlans(parameters), random.Random(0)
    assert {space.draw(rng, set()) for _ in range(100)} == plans
    left = plans.pop()
    assert space.draw(rng, plans) == left
    assert space.draw(rng, {left, *plans}) is None


def test_a_space_that_is_too_large_to_list_always_has_plans_left(parameters, plans):
    space = UntriedPlans(parameters, listed=5)
    assert space.are_left(plans, set())
    assert space.draw(random.Random(0), set()) is None
