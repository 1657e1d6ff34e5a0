"""The table of a front and the lines under it, letter by letter."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from support.terminal import shown
from vitsearch.cli.results.front import front_table, print_front, print_models, print_nearest, print_nothing
from vitsearch.cli.terminal import Terminal
from vitsearch.core.figures import Metrics
from vitsearch.core.limits import stated_limits
from vitsearch.core.plan import Compression
from vitsearch.core.record import Keys
from vitsearch.space.sections import LimitSection
from vitsearch.study.front import Evaluated, Front, Point
from vitsearch.study.printed.models import PrintedModel
from vitsearch.study.results.nearest import InfeasibleModel, nearest
from vitsearch.study.results.selection import Selection
from vitsearch.tasks import CLASSIFICATION, Tally
from vitsearch.tasks.classification.confusion import Confusion

ONE_CLASS = "the model predicts one class only, 'Shirt'"
KEYS = Keys("w", "g", "a", "d")
FRONT = """\
Pareto front of study fake: 2 models, all fake_vit@28
   trial  plan                                       accuracy    cpu_ms_p50  latency_ms_p50  peak_memory_mb
baseline  fp32                                    0.9000±0.02         4±0.1             4.1    not measured
       4  heads-33% ffn-50% global int8_dynamic       0.8710~      1 (0.25)             1.1    not measured
     12*  heads-33% ffn-50% global fp32          0.8900±0.02~  2±0.1 (0.50)             2.1    not measured
not in this width: size_mb, params_m, macs_m; --json has them
± is half of a 95 % interval, in brackets the share of the baseline; * marks the knee.
~ marks a tie with a neighbour on the front: these figures leave open which of the two is better.
peak_memory_mb is not measured (all): VmHWM cannot be read"""


@pytest.fixture
def front(plan):
    def metrics(accuracy, ms, mb, intervals=None):
        values = {
            "accuracy": accuracy,
            "cpu_ms_p50": ms,
            "latency_ms_p50": ms + 0.1,
            "peak_memory_mb": None,
            "size_mb": mb,
            "params_m": 1.0,
            "macs_m": 2.0,
        }
        return Metrics.of(values, intervals, {"peak_memory_mb": "VmHWM cannot be read"})

    cut = replace(plan, compression=Compression(1 / 3, 0.5, scope="global"))
    int8 = replace(cut, deployments=(replace(plan.deployment, precision="int8_dynamic"),))
    intervals = {"accuracy": (0.87, 0.91), "cpu_ms_p50": (1.9, 2.1)}
    points = (
        Point(4, int8, KEYS, metrics(0.871, 1.0, 2.5)),
        Point(12, cut, KEYS, metrics(0.89, 2.0, 6.25, intervals)),
    )
    baseline = Point(None, plan, KEYS, metrics(0.9, 4.0, 9.0, intervals))
    return Front("fake", ("accuracy", "cpu_ms_p50"), baseline, points, 1)


def test_the_table_of_the_front(front):
    assert shown(print_front, front) == FRONT


def test_without_labels_one_line_says_what_accuracy_is(front):
    text = " ".join(shown(print_front, replace(front, labelled_by="theirs")).split())
    assert text.count("no labels") == 1
    assert (
        "accuracy is the agreement with the fp32 outputs of theirs itself in onnxruntime, as the images have no labels"
        in text
    )


def test_models_that_differ_by_one_image_are_shown_apart(front):
    def with_accuracy(point, value):
        figures = Metrics.of({"accuracy": value}, {"accuracy": (value - 0.01268, value + 0.01268)})
        return replace(point, metrics=point.metrics | figures)

    first, second = front.points
    text = shown(print_front, replace(front, points=(with_accuracy(first, 0.9270), with_accuracy(second, 0.9275))))
    assert "0.9270±0.013" in text
    assert "0.9275±0.013" in text


def test_what_was_shipped_has_its_accuracy_on_the_test_images(front):
    shipped = replace(front.points[1], on_test=Evaluated("accuracy", 0.9185, (0.906, 0.93), 2000))
    assert shown(print_front, replace(front, points=(front.points[0], shipped))).endswith(
        "\ntrial 12 was shipped: accuracy 0.918 (0.906 to 0.930) on 2000 test images"
    )


@pytest.mark.parametrize("width", range(80, 160, 7))
def test_only_whole_columns_are_shown(front, width):
    text = shown(print_front, front, width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines()[:-2])) <= width


@pytest.mark.parametrize("width", [40, 60])
def test_in_a_narrow_terminal_plans_are_broken_and_numbers_are_not(front, width):
    text = shown(print_front, front, width=width)
    assert "…" not in text
    names = [line.split()[0] for line in text.splitlines() if line[:8].strip()]
    assert [name for name in names if name in ("baseline", "4", "12*")] == ["baseline", "4", "12*"]
    assert all(cell in text for cell in ("0.9000±0.02", "4±0.1", "0.8900±0.02~", "2±0.1 (0.50)"))


def test_models_are_named_where_there_are_several(front):
    first, second = front.points
    other = replace(first, plan=replace(first.plan, backbone="other_vit"))
    assert "other_vit@28 heads-33%" in shown(print_front, replace(front, points=(other, second)))


def test_the_share_of_its_arithmetic_stands_behind_a_precision(front):
    first, second = front.points
    shares = {"int8": 0.957, "fp32": 0.043}
    text = shown(print_front, replace(front, points=(replace(first, shares=shares), second)))
    assert "4  heads-33% ffn-50% global int8_dynamic (96% in int8)  " in text


def test_int8_in_name_only_is_said_in_the_table_and_under_it(front):
    first, _ = front.points
    hollow = replace(first, shares={"fp32": 0.99, "int8": 0.01})
    text = shown(print_front, replace(front, points=(hollow,), knee=None))
    assert "heads-33% ffn-50% global int8_dynamic (1% in int8)" in text
    assert text.splitlines()[-1] == "trial 4: int8 in name only: 1% of its MACs, 99% are in fp32"


def test_a_known_bad_combination_has_its_reason_under_the_front(front):
    first, _ = front.points
    deployment = replace(first.plan.deployment, precision="fp16")
    half = replace(first, plan=replace(first.plan, deployments=(deployment,)))
    last = shown(print_front, replace(front, points=(half,), knee=None), width=400).splitlines()[-1]
    assert last.startswith("trial 4: onnxruntime has no fp16 kernels on CPUs")
    assert PrintedModel.of(half).warnings == (last.removeprefix("trial 4: "),)


def test_a_study_without_a_model_says_where_to_look(front):
    text = shown(print_front, replace(front, points=()))
    assert text == "Study fake has no confirmed model within its limits yet: 'vitsearch status' shows its progress."


def test_a_front_without_a_baseline_has_no_ratios(front):
    text = shown(lambda front, console: console.print(front_table(front)), replace(front, baseline=None))
    assert "\nbaseline" not in text
    assert "(" not in text


def test_flags_of_the_device_are_shown(front):
    first, second = front.points
    hot = replace(second, flags=("contended", "throttled", "sustained_throttling"))
    last = shown(print_front, replace(front, points=(first, hot))).splitlines()[-1]
    assert last == "trial 12 was measured on a device with flags: throttled, sustained_throttling"


def test_a_model_that_predicts_one_class_is_named_under_the_front(front):
    constant = Metrics.of({"accuracy": 0.1, "cpu_ms_p50": 1.0}, notes={"accuracy": ONE_CLASS})
    first, _ = front.points
    text = shown(print_front, replace(front, points=(replace(first, metrics=constant),), knee=None))
    assert text.splitlines()[-1] == f"trial 4: accuracy 0.1, but {ONE_CLASS}"


def test_what_was_emulated_is_marked_in_the_front(front):
    assert shown(print_front, replace(front, emulated=True)) == "EMULATED: " + FRONT


def test_only_the_chosen_models_are_shown(front):
    text = shown(print_front_of(front.points[:1]), front)
    assert text.startswith("Pareto front of study fake: 1 of 2 models, all fake_vit@28\n")
    assert "12*" not in text


def test_a_condition_that_no_model_meets_is_said(front):
    where = Selection.of("backbone == fake", None, front.objectives).where
    text = shown(lambda models, console: print_nothing(where, models, console), front.points)
    assert text == "--where leaves none of the 2 models: no model has backbone 'fake'; they have fake_vit"


def test_an_interval_that_is_wider_than_its_value_is_explained(front):
    metrics = front.baseline.metrics
    name = next(name for name in front.objectives if name.endswith("p50"))
    wide = Metrics.of(metrics.values, dict(metrics.intervals) | {name: (0.0, 1e9)})
    disturbed = replace(front, baseline=replace(front.baseline, metrics=wide))
    assert "±? is an interval wider than its value" in shown(print_front, disturbed)
    assert "±?" not in shown(print_front, front)


def test_a_tie_with_a_model_that_is_not_shown_is_not_named(front):
    first, second = front.points
    intervals = {"accuracy": (0.85, 0.9), "cpu_ms_p50": (0.9, 2.0)}
    alike = replace(first, metrics=Metrics.of(first.metrics.values, intervals, first.metrics.reasons))
    text = shown(print_front_of((alike,)), replace(front, points=(alike, second)))
    assert "are tied in every objective" not in text


def test_models_that_tie_in_every_objective_are_named(front):
    intervals = {"accuracy": (0.85, 0.9), "cpu_ms_p50": (0.4, 2.5)}
    first, second = front.points
    values = first.metrics.values
    alike = replace(first, metrics=Metrics.of(values, intervals, first.metrics.reasons))
    text = shown(print_front, replace(front, points=(alike, second)))
    assert "trial 4 and trial 12 are tied in every objective: these figures do not tell them apart." in text


def test_all_models_have_their_place(front):
    first, second = front.points
    other = replace(second, trial=13, breaks=("accuracy>=0.9",), feasible=False)
    text = shown(print_models, replace(front, others=(replace(first, trial=14), other)), width=160)
    places = {line.split()[0]: line.split("  ")[-1] for line in text.splitlines()[2:7]}
    assert text.startswith("Models of study fake: 4 models\n")
    assert [line.split()[0] for line in text.splitlines()[2:7]] == ["baseline", "4", "12*", "14", "13"]
    assert "front" in text.splitlines()[3]
    assert "dominated" in text.splitlines()[5]
    assert "breaks accuracy>=0.9" in text.splitlines()[6], places


def test_a_model_without_an_objective_is_not_called_dominated(front):
    first, _ = front.points
    metrics = Metrics.of(first.metrics.values | {"cpu_ms_p50": None}, {}, {"cpu_ms_p50": "no clock"})
    unmeasured = replace(first, trial=14, metrics=metrics)
    text = shown(print_models, replace(front, others=(unmeasured,)), width=160)
    assert "cpu_ms_p50 not measured" in text
    assert "dominated" not in text


@pytest.mark.parametrize("show", [print_front, print_models])
def test_a_model_with_a_limit_that_cannot_be_judged_is_marked(front, show):
    first, second = front.points
    text = shown(show, replace(front, points=(first, replace(second, unjudged=("energy_mj",)))), width=160)
    assert [line.split()[0] for line in text.splitlines()[2:5]] == ["baseline", "4", "12*?"]
    assert "? marks a model with a limit that cannot be judged: trial 12 (energy_mj)" in text.splitlines()


def test_the_nearest_models_and_the_way_out_are_shown(plan):
    limits = {"accuracy": LimitSection(min=0.9), "cpu_ms_p50": LimitSection(max=1.0)}
    candidates = [
        InfeasibleModel(3, plan, {"accuracy": 0.8841, "cpu_ms_p50": 0.5}),
        InfeasibleModel(4, plan, {"accuracy": None, "cpu_ms_p50": 1.5}),
    ]
    ranked = nearest(candidates, stated_limits(limits, {}))
    assert shown(print_nearest, ranked).splitlines() == [
        "No model meets the limits. The nearest:",
        "  trial 3: fake_vit@28 fp32: accuracy 0.8841 (>= 0.9 is asked)",
        "  trial 4: fake_vit@28 fp32: cpu_ms_p50 1.5 (<= 1 is asked)",
        "One way out for each limit (in the space file):",
        "  loosen limits.accuracy.min from 0.9 to 0.8841: trial 3 passes",
        "  loosen limits.cpu_ms_p50.max from 1 to 1.5: trial 4 may pass; its accuracy is not known yet",
    ]


def print_front_of(chosen):
    return lambda front, console: print_front(front, console, chosen)


@pytest.mark.parametrize("show", [print_front, print_models])
def test_names_in_tables_are_shown_with_escapes_for_what_nobody_sees(front, show):
    invisible = "x\x1b[2J\x07\r\n\x7f\x9b31m\u200e\u202e\u2066"
    metric = f"cpu_ms_p50@board{invisible}"
    counts = Confusion(((0, 0, 40), (1, 0, 9), (1, 1, 1), (2, 2, 20)))
    tally = Tally(CLASSIFICATION, counts.to_json(), ("a", invisible, "c"))

    def renamed(point):
        metrics = Metrics.of(point.metrics.values | {metric: 1.0}, reasons={"peak_memory_mb": f"no{invisible}"})
        plan = replace(point.plan, backbone=f"vit{invisible}")
        return replace(point, plan=plan, metrics=metrics, tally=tally)

    points = tuple(map(renamed, front.points))
    changes = {"objectives": ("accuracy", metric), "points": points, "baseline": renamed(front.baseline)}
    console = Terminal(file=io.StringIO(), width=200, color_system=None)
    show(replace(front, study=f"study[/x]{invisible}", **changes), console)
    said = console.file.getvalue()
    assert "of study study[/x]x\\x1b[2J\\x07\\r\\n\\x7f" in said
    assert {character for character in said if not character.isprintable()} == {"\n"}
    assert "vitx\\x1b[2J" in said


def test_batch_and_threads_have_columns_where_models_differ_in_them(front):
    first, second = front.points
    deployed = replace(first.plan.deployment, batch=8, threads=2)
    several = replace(first, plan=replace(first.plan, deployments=(deployed,)))
    lines = shown(print_front, replace(front, points=(several, second)), width=140).splitlines()
    assert lines[1].split()[:4] == ["trial", "plan", "batch", "threads"]
    assert lines[2].split()[:4] == ["baseline", "fp32", "1", "1"]
    assert lines[3].split()[:7] == ["4", "heads-33%", "ffn-50%", "global", "int8_dynamic", "8", "2"]
    about = (
        "Times are those of one run, which has as many images as the batch says; throughput and energy count images."
    )
    assert about in lines
    assert "batch" not in shown(print_front, front)
