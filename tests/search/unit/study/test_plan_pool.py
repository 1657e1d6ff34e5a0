"""The parameters of the plans of a space, for the sampler."""

from __future__ import annotations

import random

import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.space import SearchSpace
from vitsearch.study.auto_sampler.encoding import key_of
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace

SPACE = {
    "study": "pool",
    "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
    "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
    "space": {
        "backbone": [{"name": name, "weights": "builtin"} for name in ("one", "two")],
        "resolution": [24, 28],
        "head_pruning_ratio": [0.0, 0.5],
        "pruning_scope": ["uniform", "global"],
        "token_pruning_ratio": [0.0, 0.3],
        "token_pruning_method": ["topk", "tome"],
        "quantization": ["fp32", "int8_dynamic"],
    },
}


@pytest.fixture
def plans():
    """Only backbone `one` prunes tokens."""

    def supports(backbone, knob, value):
        return "no tokens" if backbone == "two" and knob == "token_pruning_method" else None

    return PlanSpace(SearchSpace.from_json(SPACE), "local", supports, lambda backbone: ImageSize.square(28))


def test_a_small_space_gives_each_plan_once(plans):
    pooled = PlanParameters(plans)(random.Random(0), 1000)
    assert len(pooled) == plans.count() == len({key_of(parameters) for parameters in pooled})


def test_the_parameters_lead_to_plans_of_the_space_and_back(plans):
    drawn = [plans.parameters(plans.random(random.Random(seed))) for seed in range(200)]
    pooled = {key_of(parameters) for parameters in PlanParameters(plans)(random.Random(0), 1000)}
    assert {key_of(parameters) for parameters in drawn} <= pooled


@pytest.mark.parametrize("count", [20, 1000])
def test_only_plans_that_are_kept_are_given(plans, count):
    pooled = PlanParameters(plans, lambda plan: plan.backbone == "two")(random.Random(0), count)
    assert {parameters["backbone"] for parameters in pooled} == {"two"}
    assert len(pooled) == 20 if count == 20 else 0 < len(pooled) < plans.count()


def test_parameters_name_their_plan(plans):
    for plan in (plans.random(random.Random(seed)) for seed in range(50)):
        assert PlanParameters(plans).plan(plans.parameters(plan)) == plan


def test_of_a_larger_space_the_asked_number_is_drawn(plans):
    pooled = PlanParameters(plans)(random.Random(0), 20)
    every = {key_of(parameters) for parameters in PlanParameters(plans)(random.Random(0), 1000)}
    assert len(pooled) == 20
    assert {key_of(parameters) for parameters in pooled} <= every
    assert pooled == PlanParameters(plans)(random.Random(0), 20)
