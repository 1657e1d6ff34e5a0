"""The knobs of a space as samplers that know nothing of plans see them."""

from __future__ import annotations

import pickle
import random
from contextlib import suppress

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace
from vitsearch.tune.knobs import ConfigSpace

VALUES = {
    "resolution": [24, 28, 32, [16, 64], [64, 16]],
    "window_size": [4, 7, 8],
    "head_pruning_ratio": [0.0, 0.33, 0.5],
    "ffn_pruning_ratio": [0.0, 0.25, 0.5, 0.75],
    "depth_pruning_ratio": [0.0, 0.25],
    "pruning_scope": ["uniform", "global", "isomorphic"],
    "weight_sparsity": ["none", "50%", "2:4"],
    "token_pruning_ratio": [0.0, 0.3],
    "token_pruning_method": ["topk", "tome"],
    "token_pruning_at": [[3, 6, 9], [4, 8]],
    "distillation": ["none", "logits"],
    "backend": ["onnxruntime", "openvino"],
    "quantization": ["fp32", "int8_dynamic", "int8_ptq"],
    "quantized_ops": ["linear", "all"],
    "batch": ["1", "open"],
}


def supports(backbone, knob, value):
    """Windows and convolutions only in `two`; tokens, sparsity and int8_dynamic only elsewhere."""
    name, _, resolution = knob.partition("@")
    is_two = backbone == "two"
    if name == "window_size":
        return None if is_two and ImageSize.of_text(resolution).height % value == 0 else "no such window"
    only_there = name == "quantized_ops" and value == "all"
    elsewhere = value in ("tome", "2:4", "int8_dynamic") or (name == "token_pruning_ratio" and value)
    return "not here" if (only_there and not is_two) or (elsewhere and is_two) else None


def knobs_of(**values):
    names = values.pop("backbone", ["one", "two"])
    space = {
        "study": "knobs",
        "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
        "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
        "space": {"backbone": [{"name": name, "weights": "builtin"} for name in names], "resolution": [28]} | values,
    }
    knobs = ConfigSpace(SearchSpace.from_json(space))
    knobs.__dict__["_plans"] = PlanSpace(knobs.space, "local", supports, lambda backbone: ImageSize.square(28))
    return knobs


@st.composite
def some_knobs(draw):
    """Any part of the values, on one to three backbones."""
    values = {name: draw(st.lists(st.sampled_from(some), min_size=1, unique_by=str)) for name, some in VALUES.items()}
    values["quantization"] = ["fp32", *(precision for precision in values["quantization"] if precision != "fp32")]
    values["backbone"] = draw(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, unique=True))
    return knobs_of(**values)


def drawn(knobs):
    """A config as a sampler without dependencies fills it in: one knob after the other."""
    config = {}
    for name in knobs.choices:
        config[name] = None
    for _ in range(len(config)):  # an answer may show that another knob is asked
        for name in knobs.choices:
            if config[name] is None:
                config[name] = knobs.draw(name, {key: value for key, value in config.items() if value is not None})
    return config


@given(knobs=some_knobs(), seed=st.integers(0, 999))
@pytest.mark.long
def test_every_plan_can_be_written_as_a_config(knobs, seed):
    plan = knobs._plans.random(random.Random(seed))
    config = knobs._plans.parameters(plan)
    assert all(value in knobs.choices[name] for name, value in config.items())
    assert knobs.plan(config) == plan


@given(knobs=some_knobs())
@pytest.mark.long
def test_drawn_configs_are_plans_and_leave_out_what_those_do_not_have(knobs):
    config = drawn(knobs)
    parameters = knobs._plans.parameters(knobs.plan(config))
    assert {name: value for name, value in config.items() if value is not None} == parameters


@given(knobs=some_knobs(), seed=st.integers(0, 999))
@pytest.mark.long
def test_what_optuna_is_asked_for_is_a_plan_or_refused_for_its_backbone(knobs, seed):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(4):  # one study: a knob must have the same words each time
        trial = study.ask()
        knobs.suggest(trial)
        assert set(trial.params) <= set(knobs.choices)
        with suppress(PlanError):
            assert set(knobs._plans.parameters(knobs.plan(trial.params))) <= set(trial.params)


def test_a_number_becomes_the_nearest_of_the_space():
    knobs = knobs_of(backbone=["one"], ffn_pruning_ratio=[0.0, 0.25, 0.5])
    assert knobs.plan({"ffn_pruning_ratio": 0.2}).compression.ffn_pruning_ratio == 0.25


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ffn_pruning_ratio": 0.5, "pruning_scop": "global"}, "has no 'pruning_scope'; did you mean 'pruning_scop'"),
        ({"ffn_pruning_ratio": 0.9}, r"ffn_pruning_ratio 0\.9 is not in the space here; allowed: 0\.0, 0\.5"),
        ({"ffn_pruning_ratio": None}, "ffn_pruning_ratio None is not in the space"),
        ({"ffn_pruning_ratio": 0.5, "pruning_scope": "best"}, "'best' is not in the space.*allowed: uniform, global"),
    ],
)
def test_a_config_that_is_no_plan_is_refused(config, message):
    knobs = knobs_of(backbone=["one"], ffn_pruning_ratio=[0.0, 0.5], pruning_scope=["uniform", "global"])
    with pytest.raises(PlanError, match=message):
        knobs.plan(config)
    assert knobs.draw("pruning_scope", {"ffn_pruning_ratio": 0.9}) is None


def test_knobs_travel_as_their_space():
    knobs = knobs_of(backbone=["one"])
    assert pickle.loads(pickle.dumps(knobs)).space == knobs.space
