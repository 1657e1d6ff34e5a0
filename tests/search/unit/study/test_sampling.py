"""From a space to plans, and from plans to Optuna parameters and back."""

from __future__ import annotations

import random
from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace, Unpruned
from vitsearch.study.suggest import OptunaSuggest


def yes(backbone, knob, value):
    return None


def native(backbone):
    return ImageSize.square(28)


def space_of(**knobs):
    base = {
        "backbone": [{"name": name, "weights": "builtin"} for name in knobs.pop("backbone", ["one"])],
        "resolution": [28],
    }
    return SearchSpace.from_json(
        {
            "study": "sampling",
            "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
            "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
            "space": base | knobs,
        }
    )


WIDE = {
    "backbone": ["one", "two"],
    "resolution": [24, 28],
    "head_pruning_ratio": [0.0, 0.33, 0.5],
    "ffn_pruning_ratio": [0.0, 0.25, 0.5, 0.75],
    "pruning_scope": ["uniform", "global", "isomorphic"],
    "distillation": ["none", "logits"],
    "quantization": ["fp32", "int8_dynamic"],
}


TOKENS = {
    "token_pruning_ratio": [0.0, 0.3],
    "token_pruning_method": ["topk", "tome"],
    "token_pruning_at": [[3, 6, 9], [4, 8]],
    "depth_pruning_ratio": [0.0, 0.25],
    "weight_sparsity": ["none", "2:4"],
}


def plans_of(supports=yes, **knobs):
    return PlanSpace(space_of(**knobs), "local", supports, native)


@pytest.fixture(scope="session")
def wide():
    return plans_of(**WIDE)


def as_asked(name, choices):
    return choices


seeds = st.integers(0, 10**6).map(random.Random)


@given(seeds)
def test_the_same_seed_gives_the_same_plan(wide, rng):
    again = random.Random()
    again.setstate(rng.getstate())
    assert wide.random(rng) == wide.random(again)


@given(seeds)
def test_every_plan_is_in_its_space(wide, rng):
    assert wide.contains(wide.random(rng))


@pytest.mark.parametrize("seed", range(12))
def test_enqueued_parameters_lead_to_their_plan(wide, seed):
    plan = wide.random(random.Random(seed))
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.enqueue_trial(wide.parameters(plan))
    suggest = OptunaSuggest(study.ask(), as_asked)
    assert wide.plan(suggest) == plan
    assert suggest.off_space == []


def test_parameters_have_every_name_of_a_trial(wide):
    study = optuna.create_study()
    study.enqueue_trial(wide.parameters(wide.random(random.Random(3))))
    trial = study.ask()
    wide.plan(OptunaSuggest(trial, as_asked))
    assert trial.params.keys() == wide.parameters(wide.random(random.Random(3))).keys()


def test_dependent_knobs_have_the_other_choice_in_their_name(wide):
    names = wide.parameters(wide.random(random.Random(0))).keys()
    assert {name for name in names if "@" in name} == {
        f"resolution@{wide.random(random.Random(0)).backbone}", "quantization@onnxruntime",
    }  # fmt: skip


def test_a_knob_with_one_choice_is_not_a_parameter():
    plans = plans_of()
    trial = optuna.create_study().ask()
    plan = plans.plan(OptunaSuggest(trial, as_asked))
    assert trial.params == {}
    assert plans.parameters(plan) == {}
    assert (plan.backbone, plan.resolution, plan.deployment.precision) == ("one", ImageSize.square(28), "fp32")


def test_the_scope_is_a_parameter_only_of_pruned_plans(wide):
    uncut = wide.unpruned(Unpruned("one", "onnxruntime", "cpu", "fp32"))
    assert "pruning_scope" not in wide.parameters(uncut)
    cut = replace(uncut, compression=Compression(ffn_pruning_ratio=0.5))
    assert wide.parameters(cut)["pruning_scope"] == "uniform"


def picky(backbone, knob, value):
    if backbone == "two" and knob == "quantization" and value == "int8_dynamic":
        return "it has layers that cannot be quantized"
    if backbone == "two" and knob == "head_pruning_ratio" and value > 0.4:
        return "it has too few heads"
    if backbone == "two" and knob == "resolution" and value == ImageSize.square(24):
        return "no multiple of its patch"
    return None


@given(seeds)
def test_unsupported_values_are_never_drawn_at_random(rng):
    plan = plans_of(picky, **WIDE).random(rng)
    values = {
        "quantization": plan.deployment.precision,
        "head_pruning_ratio": plan.compression.head_pruning_ratio,
        "resolution": plan.resolution,
    }
    assert [picky(plan.backbone, knob, value) for knob, value in values.items()] == [None] * 3


def test_unsupported_values_are_never_drawn_by_optuna():
    plans = plans_of(picky, **WIDE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        assert plans.contains(plans.plan(OptunaSuggest(study.ask(), as_asked)))


def test_a_backbone_with_fewer_words_has_its_own_parameter():
    plans = plans_of(picky, **WIDE | {"quantization": ["fp32", "int8_dynamic", "int8_ptq"]})
    leaders = [plans.unpruned(Unpruned(name, "onnxruntime", "cpu", "int8_ptq")) for name in ("one", "two")]
    assert [plan.deployment.precision for plan in leaders] == ["int8_ptq", "int8_ptq"]
    names = [{name for name in plans.parameters(plan) if name.startswith("quantization")} for plan in leaders]
    assert names == [{"quantization@onnxruntime"}, {"quantization@onnxruntime@two"}]


def test_a_backbone_without_supported_ratios_is_not_pruned():
    plans = plans_of(lambda backbone, knob, value: "no" if knob.endswith("ratio") else None, **WIDE)
    assert all(plans.random(random.Random(seed)).compression.is_identity for seed in range(20))


class _Every:
    """Walk all answers: replay a prefix, and note the other choices."""

    def __init__(self, prefix):
        self.prefix, self.answers, self.open = prefix, [], []

    def word(self, name, choices):
        at = len(self.answers)
        if at >= len(self.prefix):
            self.open += [(*self.answers, choice) for choice in choices[1:]]
        self.answers.append(self.prefix[at] if at < len(self.prefix) else choices[0])
        return self.answers[-1]

    number = word


def all_plans(plans):
    todo, every_plan = [()], []
    while todo:
        every = _Every(todo.pop())
        every_plan.append(plans.plan(every))
        todo += every.open
    return every_plan


@pytest.mark.parametrize("supports", [yes, picky])
def test_count_is_the_number_of_plans(supports):
    plans = plans_of(supports, **WIDE)
    every_plan = all_plans(plans)
    assert plans.count() == len(every_plan) == len(set(every_plan))


def test_count_includes_the_knobs_of_token_pruning():
    plans = plans_of(**TOKENS)
    assert plans.count() == len(set(all_plans(plans))) == 2 * 2 * (1 + 2 * 2)


@given(seeds)
def test_token_pruning_method_is_a_parameter_only_when_tokens_are_dropped(rng):
    plans = plans_of(**TOKENS)
    plan = plans.random(rng)
    parameters = plans.parameters(plan)
    assert ("token_pruning_method@one" in parameters) == (plan.compression.token_pruning_ratio > 0)
    assert plans.contains(plan)


def test_a_backbone_without_supported_methods_keeps_its_tokens():
    def supports(backbone, knob, value):
        return "no" if knob == "token_pruning_method" else None

    plans = plans_of(supports, **TOKENS)
    assert {plan.compression.token_pruning_ratio for plan in all_plans(plans)} == {0.0}
    assert plans.count() == 2 * 2


def test_count_of_a_space_with_one_plan():
    assert plans_of().count() == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_smaller_space_does_not_contain_dropped_choices(wide, seed):
    plan = wide.random(random.Random(seed))
    dropped = plans_of(**WIDE | {"quantization": [p for p in WIDE["quantization"] if p != plan.deployment.precision]})
    assert not dropped.contains(plan)


@pytest.mark.parametrize(
    "change",
    [{"backbone": "three"}, {"resolution": ImageSize.square(32)}, {"window_size": 7}, {"weights": "hub"}],
    ids=lambda change: next(iter(change)),
)
def test_another_plan_is_not_in_the_space(wide, change):
    plan = replace(wide.unpruned(Unpruned("one", "onnxruntime", "cpu", "fp32")), **change)
    assert not wide.contains(plan)
    assert not wide.covers(plan)


def test_a_plan_of_another_recipe_is_covered_but_not_contained(wide):
    plan = wide.unpruned(Unpruned("one", "onnxruntime", "cpu", "fp32"))
    other = replace(plan, recipe=replace(plan.recipe, lr=2 * plan.recipe.lr))
    assert (wide.covers(other), wide.contains(other)) == (True, False)


def test_the_leaderboard_has_every_unpruned_backbone_in_every_precision(wide):
    seen = [(plan.backbone, plan.resolution, plan.deployment.precision) for plan in wide.leaderboard()]
    assert seen == [(b, ImageSize.square(28), p) for b in ("one", "two") for p in ("fp32", "int8_dynamic")]
    assert all(plan.compression.is_identity and wide.contains(plan) for plan in wide.leaderboard())


@pytest.mark.parametrize(("offered", "expected"), [([24, 28, 32], 28), ([20, 24], 24), ([32, 64], 64)])
def test_a_base_is_trained_at_its_native_resolution_or_the_largest_offered(offered, expected):
    plans = plans_of(resolution=offered)
    assert plans.base_resolution("one") == ImageSize.square(expected)
    assert [plan.resolution for plan in plans.leaderboard()] == [ImageSize.square(expected)]


def test_a_teacher_outside_the_space_keeps_its_native_resolution():
    assert plans_of(resolution=[24]).base_resolution("teacher") == ImageSize.square(28)


def test_the_leaderboard_is_unpruned_when_the_space_always_prunes():
    plans = plans_of(head_pruning_ratio=[0.33, 0.5])
    (plan,) = plans.leaderboard()
    assert plan.compression.is_identity
    assert not plans.contains(plan)


def test_the_baseline_is_in_fp32_and_need_not_be_in_the_space():
    space = space_of(quantization=["int8_dynamic"])
    value = space.to_json() | {"baseline": {"backbone": "other", "weights": "hub", "resolution": 32}}
    plan = PlanSpace(SearchSpace.from_json(value), "pi", yes, native).baseline()
    assert (plan.backbone, plan.weights, plan.resolution) == ("other", "hub", ImageSize.square(32))
    assert (plan.deployment.precision, plan.deployment.device) == ("fp32", "pi")
    assert plan.compression.is_identity


WINDOWS = {"backbone": ["swin", "vit"], "resolution": [24, 32], "window_size": [2, 3, 4]}


def divides(backbone, knob, value):
    """Answer like a family with windows, whose backbone swin has maps of half the pixels."""
    name, _, pixels = knob.partition("@")
    if name != "window_size" or (backbone == "swin" and (not pixels or int(pixels) // 2 % value == 0)):
        return None
    return "no"


@pytest.fixture
def windowed():
    own = {("swin", ImageSize.square(24)): 3, ("swin", ImageSize.square(32)): 5}
    return PlanSpace(space_of(**WINDOWS), "local", divides, native, lambda *arguments: own.get(arguments))


def test_only_windows_that_divide_the_maps_are_drawn(windowed):
    seen = {(plan.backbone, plan.resolution.height, plan.window_size) for plan in all_plans(windowed)}
    assert seen == {
        ("swin", 24, 2), ("swin", 24, None), ("swin", 24, 4), ("swin", 32, 2), ("swin", 32, 4),
        ("vit", 24, None), ("vit", 32, None),
    }  # fmt: skip
    assert windowed.count() == len(seen)


def test_the_window_parameter_is_named_by_backbone_and_resolution(windowed):
    plan = replace(
        windowed.unpruned(Unpruned("swin", "onnxruntime", "cpu", "fp32")),
        resolution=ImageSize.square(32),
        window_size=4,
    )
    assert windowed.parameters(plan)["window_size@swin@32"] == 4
    assert windowed.contains(plan)


def test_the_default_window_is_the_same_plan_as_no_window(windowed):
    own = windowed.unpruned(Unpruned("swin", "onnxruntime", "cpu", "fp32"))
    assert (own.resolution, own.window_size) == (ImageSize.square(32), None)
    assert not windowed.contains(own)  # 5 is not in the file
    assert windowed.contains(replace(own, resolution=ImageSize.square(24)))
    assert windowed.parameters(replace(own, resolution=ImageSize.square(24)))["window_size@swin@24"] == 3


SHAPES = {"backbone": ["one", "two"], "resolution": [24, [16, 36], [36, 16], [16, 64]]}
"""The first three have as many pixels."""


@given(seeds)
def test_every_plan_of_rectangles_is_in_its_space_and_has_parameters_of_its_own(rng):
    plans = plans_of(**SHAPES)
    plan = plans.random(rng)
    assert plans.contains(plan)
    parameters = plans.parameters(plan)
    study = optuna.create_study()
    study.enqueue_trial(parameters)
    assert plans.plan(OptunaSuggest(study.ask(), as_asked)) == plan


def test_shapes_of_as_many_pixels_are_told_apart_by_a_word():
    plans = plans_of(**SHAPES)
    (tall,) = {plan for plan in all_plans(plans) if plan.backbone == "one" and plan.resolution == ImageSize(36, 16)}
    parameters = plans.parameters(tall)
    assert (parameters["resolution@one"], parameters["image_shape@one@576"]) == (24.0, "36x16")
    assert plans.count() == len(all_plans(plans)) == 2 * 4


def test_a_shape_alone_with_its_pixels_is_a_number_only():
    plans = plans_of(**SHAPES)
    wide = plans.unpruned(Unpruned("one", "onnxruntime", "cpu", "fp32"))  # the base has the largest
    assert wide.resolution == ImageSize(16, 64)
    assert plans.parameters(wide) == {"backbone": "one", "resolution@one": 32.0}


def test_a_rectangle_that_lies_on_its_side_is_another_plan():
    plans = plans_of(resolution=[[16, 36]])
    (plan,) = all_plans(plans)
    assert not plans.contains(replace(plan, resolution=ImageSize(36, 16)))


def test_the_window_parameter_of_a_rectangle_has_its_shape():
    space = space_of(backbone=["swin"], resolution=[[24, 32]], window_size=[2, 4])
    asked = []
    plans = PlanSpace(space, "local", lambda *question: asked.append(question), native)
    assert {name for plan in all_plans(plans) for name in plans.parameters(plan)} == {"window_size@swin@24x32"}
    assert ("swin", "window_size@24x32", 2) in asked


RUNTIMES = {
    "backend": ["onnxruntime", "openvino", "litert"],
    "provider": ["cpu", "gpu", "npu"],
    "quantization": ["fp32", "bf16", "int8_dynamic"],
}


def named(plans, model):
    """The parameters of an unpruned model that say where it runs."""
    return plans.parameters(plans.unpruned(model))


def test_the_provider_is_a_parameter_of_each_runtime():
    plans = plans_of(**RUNTIMES)
    assert named(plans, Unpruned("one", "openvino", "npu", "bf16")) == {
        "backend": "openvino",
        "provider@openvino": "npu",
        "quantization@openvino@npu@one": "bf16",
    }
    litert = named(plans, Unpruned("one", "litert", "gpu", "fp32"))
    assert litert["provider@litert"] == "gpu"
    assert "provider@onnxruntime" not in named(plans, Unpruned("one", "onnxruntime", "cpu", "fp32"))  # it has one


def test_the_leaderboard_has_every_runtime_and_provider_at_the_precisions_that_it_has():
    seen = [(model.runtime, model.provider, model.precision) for model in plans_of(**RUNTIMES).unpruned_models()]
    assert seen == [
        ("onnxruntime", "cpu", "fp32"),
        ("onnxruntime", "cpu", "int8_dynamic"),
        *(("openvino", provider, precision) for provider in ("cpu", "gpu", "npu") for precision in ("fp32", "bf16")),
        *(("litert", provider, precision) for provider in ("cpu", "gpu") for precision in ("fp32", "int8_dynamic")),
    ]


SLOW = {"backend": ["executorch", "onnxruntime"], "quantization": ["fp32", "int8_ptq"], "quantized_ops": ["linear"]}


def test_a_runtime_that_lowers_slowly_is_on_the_leaderboard_and_never_proposed_beside_another():
    plans = plans_of(**SLOW)
    assert {model.runtime for model in plans.unpruned_models()} == {"executorch", "onnxruntime"}
    assert all(map(plans.contains, all_plans(plans)))
    proposed = {plan.deployment.runtime for plan in all_plans(plans) if plans.proposes(plan)}
    assert proposed == {"onnxruntime"}


def test_a_backbone_is_proposed_in_a_runtime_that_lowers_slowly_where_it_has_no_other():
    alone = plans_of(**SLOW | {"backend": ["executorch"]})
    assert all(map(alone.proposes, all_plans(alone)))

    def supports(backbone, knob, value):
        return "not here" if (backbone, value) == ("two", "onnxruntime") else None

    plans = plans_of(supports, backbone=["one", "two"], **SLOW)
    proposed = {(plan.backbone, plan.deployment.runtime) for plan in all_plans(plans) if plans.proposes(plan)}
    assert proposed == {("one", "onnxruntime"), ("two", "executorch")}


def test_without_providers_each_runtime_has_its_default_one():
    plans = plans_of(**RUNTIMES | {"provider": [], "backend": ["onnxruntime", "tensorrt", "coreml"]})
    assert {(m.runtime, m.provider) for m in plans.unpruned_models()} == {
        ("onnxruntime", "cpu"), ("tensorrt", "gpu"), ("coreml", "all"),
    }  # fmt: skip


def test_a_runtime_without_a_provider_of_the_file_is_left_out():
    plans = plans_of(**RUNTIMES | {"provider": ["npu"]})
    assert {plan.deployment.runtime for plan in all_plans(plans)} == {"openvino"}


@pytest.mark.parametrize("batch", [["auto"], ["1"], ["1", "open"]])
def test_count_is_the_number_of_plans_over_runtimes_providers_and_batches(batch):
    plans = plans_of(**RUNTIMES | {"batch": batch})
    every_plan = all_plans(plans)
    assert plans.count() == len(every_plan) == len(set(every_plan))
    assert all(plans.contains(plan) for plan in every_plan)


def test_what_the_device_cannot_run_is_left_out():
    def deployable(deployment):
        return "no" if deployment.provider == "npu" or deployment.precision == "bf16" else None

    plans = replace(plans_of(**RUNTIMES), deployable=deployable)
    seen = {(plan.deployment.provider, plan.deployment.precision) for plan in all_plans(plans)}
    assert seen == {("cpu", "fp32"), ("cpu", "int8_dynamic"), ("gpu", "fp32"), ("gpu", "int8_dynamic")}
    assert plans.count() == len(all_plans(plans))


def test_auto_is_one_image_until_more_is_known_and_then_what_was_kept():
    plans = plans_of(quantization=["fp32", "int8_ptq"])
    assert {plan.deployment.batch for plan in all_plans(plans)} == {1}
    kept = {("int8_ptq", "batch"): "open"}
    informed = replace(plans, form_of=lambda model, knob: kept.get((model.precision, knob)))
    assert {(plan.deployment.precision, plan.deployment.batch) for plan in all_plans(informed)} == {
        ("fp32", 1), ("int8_ptq", None),
    }  # fmt: skip
    assert plans.parameters(plans.unpruned(Unpruned("one", "onnxruntime", "cpu", "fp32"))).keys() == {
        "quantization@onnxruntime"
    }


def test_both_batches_are_a_parameter_where_the_runtime_has_both():
    plans = plans_of(backend=["onnxruntime", "litert"], batch=["1", "open"])
    models = [Unpruned("one", runtime, "cpu", "fp32") for runtime in ("onnxruntime", "litert")]
    assert plans.parameters(plans.unpruned(models[0], batch="open")) == {
        "backend": "onnxruntime",
        "batch@onnxruntime": "open",
    }
    assert plans.parameters(plans.unpruned(models[1])) == {"backend": "litert"}
    assert {plan.deployment.batch for plan in all_plans(plans) if plan.deployment.runtime == "litert"} == {1}


def hybrids(**knobs):
    """Backbone "one" has no convolutions."""

    def supports(backbone, knob, value):
        return "has none" if (backbone, knob) == ("one", "quantized_ops") and value != "auto" else None

    base = {"backbone": ["one", "two"], "quantization": ["fp32", "int8_dynamic", "int8_ptq"], "batch": "1"}
    return plans_of(supports, **base | knobs)


def forms(plans):
    return {
        (plan.backbone, plan.deployment.runtime, plan.deployment.precision, plan.deployment.quantized_ops)
        for plan in all_plans(plans)
    }


def test_int8_of_a_backbone_with_convolutions_has_the_usual_form_until_more_is_known():
    plans = hybrids(backend=["onnxruntime", "openvino"], quantization=["fp32", "int8_ptq"])
    assert {form for form in forms(plans) if form[2] == "int8_ptq"} == {
        ("one", "onnxruntime", "int8_ptq", None),
        ("one", "openvino", "int8_ptq", None),
        ("two", "onnxruntime", "int8_ptq", "linear"),
        ("two", "openvino", "int8_ptq", "all"),
    }
    assert {form[3] for form in forms(plans) if form[2] == "fp32"} == {None}


def test_the_quantized_layers_that_auto_has_found_are_no_parameter():
    plans = replace(hybrids(), form_of=lambda model, knob: "all" if model.precision == "int8_ptq" else None)
    model = Unpruned("two", "onnxruntime", "cpu", "int8_ptq")
    assert plans.unpruned(model).deployment.quantized_ops == "all"
    assert plans.parameters(plans.unpruned(model)).keys() == {"backbone", "quantization@onnxruntime"}
    assert plans.unpruned(model, quantized_ops="linear").deployment.quantized_ops == "linear"
    assert not plans.contains(plans.unpruned(model, quantized_ops="linear"))


def test_auto_tries_what_the_precision_can_quantize():
    plans = hybrids()
    tried = {
        (model.backbone, model.precision): plans.tried_forms("quantized_ops", model)
        for model in plans.unpruned_models()
    }
    assert tried == {
        ("one", "fp32"): (),
        ("one", "int8_dynamic"): (),
        ("one", "int8_ptq"): (),
        ("two", "fp32"): (),
        ("two", "int8_dynamic"): ("linear",),
        ("two", "int8_ptq"): ("linear", "all"),
    }


def test_a_plan_is_covered_whatever_form_auto_has_found_since():
    plans = plans_of(batch=["auto"])
    plan = next(plans.leaderboard())
    informed = replace(plans, form_of=lambda model, knob: "open" if knob == "batch" else None)
    other = next(informed.leaderboard())
    assert plan.deployment != other.deployment
    assert informed.covers(plan)
    assert not informed.contains(plan)


@pytest.mark.parametrize(("forms", "tried"), [({}, 1), ({"batch": "auto"}, 1 + 6), ({"quantized_ops": "all"}, 0)])
def test_auto_measures_further_forms_of_models_that_have_several(forms, tried):
    assert hybrids(**forms).count_tried() == tried


def test_named_quantized_layers_are_a_parameter_where_there_is_a_choice():
    plans = hybrids(quantized_ops=["all", "linear"])
    model = Unpruned("two", "onnxruntime", "cpu", "int8_ptq")
    assert plans.parameters(plans.unpruned(model)) == {
        "backbone": "two",
        "quantization@onnxruntime": "int8_ptq",
        "quantized_ops@onnxruntime@int8_ptq": "all",
    }
    assert {form[3] for form in forms(plans) if form[2] == "int8_dynamic"} == {None, "linear"}


def test_layers_of_the_file_that_a_precision_cannot_quantize_leave_its_usual_form():
    assert {form[2:] for form in forms(hybrids(quantized_ops="all")) if form[0] == "two"} == {
        ("fp32", None), ("int8_dynamic", "linear"), ("int8_ptq", "all"),
    }  # fmt: skip


@pytest.mark.parametrize("ops", ["auto", "linear", ["linear", "all"]])
def test_count_is_the_number_of_plans_over_quantized_layers(ops):
    plans = hybrids(quantized_ops=ops)
    every_plan = all_plans(plans)
    assert plans.count() == len(every_plan) == len(set(every_plan))


def test_a_form_that_differs_between_models_leaves_no_trial_outside_the_space():
    """An enqueued plan has no parameter for it, and a sampler would draw one."""
    plans = plans_of(backbone=["one", "two"])
    plans = replace(plans, form_of=lambda model, knob: "open" if model.backbone == "two" else "1")
    lists: dict[str, tuple[str, ...]] = {}

    def word_choices(name, choices):
        before = lists.get(name, ())
        lists[name] = before + tuple(choice for choice in choices if choice not in before)
        return lists[name]

    study = optuna.create_study()
    for plan in plans.leaderboard():
        study.enqueue_trial(plans.parameters(plan))
        suggest = OptunaSuggest(study.ask(), word_choices)
        assert (plans.plan(suggest), suggest.off_space) == (plan, [])


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), ("openvino", "gpu", 1)),
        (("openvino",), ("onnxruntime", "cpu", 1)),
        (("openvino", "onnxruntime", "litert"), ("openvino", "gpu", 1)),
    ],
)
def test_the_baseline_runs_in_the_first_runtime_and_provider_that_the_device_has(missing, expected):
    order = {"backend": ["openvino", "onnxruntime", "litert"], "provider": ["gpu", "cpu"]}
    plans = replace(
        plans_of(**RUNTIMES | order), deployable=lambda deployment: "no" if deployment.runtime in missing else None
    )
    deployment = plans.baseline().deployment
    assert (deployment.runtime, deployment.provider, deployment.batch) == expected
    assert deployment.precision == "fp32"


def test_the_baseline_does_not_run_on_a_provider_that_the_device_lacks():
    order = {"backend": ["openvino"], "provider": ["gpu", "cpu"]}
    plans = replace(plans_of(**order), deployable=lambda deployment: "no" if deployment.provider == "gpu" else None)
    assert plans.baseline().deployment.provider == "cpu"


RUNS = {"threads": [2, 1, 4], "batch": ["1", "8", "open"]}


def test_batch_and_threads_are_knobs_of_every_plan():
    plans = plans_of(**RUNS)
    deployed = {(plan.deployment.batch, plan.deployment.threads) for plan in all_plans(plans)}
    assert deployed == {(batch, threads) for batch in (1, 8, None) for threads in (1, 2, 4)}
    assert plans.count() == 9


@pytest.mark.parametrize("seed", range(6))
def test_threads_are_drawn_by_their_logarithm_and_lead_back_to_their_plan(seed):
    plans = plans_of(**RUNS)
    plan = plans.random(random.Random(seed))
    study = optuna.create_study()
    study.enqueue_trial(plans.parameters(plan))
    trial = study.ask()
    assert plans.plan(OptunaSuggest(trial, as_asked)) == plan
    assert trial.distributions["threads"] == optuna.distributions.FloatDistribution(1.0, 4.0, log=True)
    assert plans.contains(plan)
    assert not plans_of(batch=["1", "8", "open"]).contains(replace_threads(plan, 8))


def replace_threads(plan, threads):
    return replace(plan, deployments=(replace(plan.deployment, threads=threads),))


def test_without_the_knob_threads_are_those_of_the_measurements_and_no_parameter():
    space = space_of()
    space = space.model_copy(update={"measure": space.measure.model_copy(update={"threads": 3})})
    plans = PlanSpace(space, "local", yes, native)
    (plan,) = all_plans(plans)
    assert (plan.deployment.threads, plans.parameters(plan), plans.baseline().deployment.threads) == (3, {}, 3)


def test_what_computes_elsewhere_has_the_fewest_threads_alone():
    plans = plans_of(**RUNS, provider=["cpu", "cuda"])
    threads = {(plan.deployment.provider, plan.deployment.threads) for plan in all_plans(plans)}
    assert threads == {("cpu", 1), ("cpu", 2), ("cpu", 4), ("cuda", 1)}


def test_threads_for_which_the_device_has_no_cores_are_left_out():
    def on_two_cores(deployment):
        return "too few cores" if deployment.threads > 2 else None

    plans = replace(plans_of(**RUNS), deployable=on_two_cores)
    assert {plan.deployment.threads for plan in all_plans(plans)} == {1, 2}
    assert plans.count() == 6


STREAMED = {"streams": [4, 1, 2], "threads": [1, 2], "batch": ["1"]}


def on_four_cores(deployment):
    return "too few cores" if deployment.threads * (deployment.streams or 1) > 4 else None


def test_streams_and_threads_have_a_core_each():
    plans = replace(plans_of(**STREAMED), deployable=on_four_cores)
    runs = {(plan.deployment.threads, plan.deployment.streams) for plan in all_plans(plans)}
    assert runs == {(1, 1), (1, 2), (1, 4), (2, 1), (2, 2)}
    assert plans.count() == 5


@pytest.mark.parametrize("seed", range(6))
def test_streams_are_drawn_by_their_logarithm_and_lead_back_to_their_plan(seed):
    plans = replace(plans_of(**STREAMED), deployable=on_four_cores)
    plan = plans.random(random.Random(seed))
    study = optuna.create_study()
    study.enqueue_trial(plans.parameters(plan))
    trial = study.ask()
    assert plans.plan(OptunaSuggest(trial, as_asked)) == plan
    assert trial.distributions["streams"].log
    assert plans.contains(plan)
    assert not plans_of(threads=[1, 2], batch=["1"]).contains(plan), "a file without streams"


def test_the_leaderboard_varies_streams_in_one_precision_only_and_in_one_file():
    plans = plans_of(quantization=["fp32", "int8_dynamic"], streams=[2, 1], batch=["1"])
    runs = [(plan.deployment.precision, plan.deployment.streams) for plan in plans.leaderboard()]
    assert runs == [("fp32", 1), ("fp32", 2), ("int8_dynamic", 1)]
    assert plans.count_leaders() == (2, 3)
    assert plans.baseline().deployment.streams == 1


def test_a_runtime_of_fixed_batches_has_no_open_one():
    plans = plans_of(**RUNS, backend=["litert"])
    assert {plan.deployment.batch for plan in all_plans(plans)} == {1, 8}


def test_the_leaderboard_varies_batch_and_threads_in_one_precision_only():
    plans = plans_of(**RUNS, quantization=["fp32", "int8_dynamic"])
    listed = [plan.deployment for plan in plans.leaderboard()]
    runs = [(deployment.precision, deployment.batch, deployment.threads) for deployment in listed]
    assert runs == [
        *(("fp32", 1, 1), ("fp32", 8, 1), ("fp32", None, 1), ("fp32", 1, 2), ("fp32", 1, 4)),
        ("int8_dynamic", 1, 1),
    ]
    assert plans.count_leaders() == (4, 6), "runs that differ in their threads share a file"
    assert plans.baseline().deployment == listed[0]


def test_a_backbone_has_the_runtimes_and_batches_that_it_supports():
    def supports(backbone, knob, value):
        return "no" if (knob, value) in {("backend", "litert"), ("batch", "8")} else None

    plans = plans_of(supports, backend=["litert", "onnxruntime"], batch=["1", "8"])
    assert {model.runtime for model in plans.unpruned_models()} == {"onnxruntime"}
    assert {plan.deployments[0].batch for plan in plans.leaderboard()} == {1}
