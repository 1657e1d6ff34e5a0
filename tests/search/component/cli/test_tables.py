"""What the terminal shows, letter by letter."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from vitsearch.cli.tables import front_table, missing_notes, print_front, print_status
from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Compression
from vitsearch.core.record import Keys
from vitsearch.study.front import Front, Point

ONE_CLASS = "the model predicts one class only, 'Shirt'"
KEYS = Keys("w", "g", "a", "d")
FRONT = """\
Pareto front of study fake: 2 models, all fake_vit@28
   trial  plan                                     accuracy    cpu_ms_p50  latency_ms_p50  peak_memory_mb  size_mb
baseline  fp32                                   0.900±0.02         4±0.1             4.1    not measured        9
       4  heads-33% ffn-50% global int8_dynamic       0.871      1 (0.25)             1.1    not measured      2.5
     12*  heads-33% ffn-50% global fp32          0.890±0.02  2±0.1 (0.50)             2.1    not measured     6.25
± is half of a 95 % interval, in brackets the share of the baseline; * marks the knee.
peak_memory_mb is not measured (all): VmHWM cannot be read"""
LEADERBOARD = """\
Leaderboard: unpruned models as they would be shipped
model             accuracy  cpu_ms_p50  latency_ms_p50  peak_memory_mb       size_mb      params_m        macs_m
fake_vit@28 fp32    0.8912         3.6    not measured    not measured  not measured  not measured  not measured
peak_memory_mb is not measured (all): VmHWM cannot be read"""


def shown(show, *what, width=115):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(*what, console)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def row_of(plan, metrics, **shares):
    """A row of the leaderboard."""
    return {"plan": plan.to_json(), "shares": shares, **metrics.to_json()}


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


def test_a_reason_from_a_device_stays_on_its_line():
    note = missing_notes(["power_w"], {"4": Metrics.of({"power_w": None}, None, {"power_w": "no meter\n\x1b[2J"})})
    assert note == ["power_w is not measured (all): no meter\\n\\x1b[2J"]


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
    assert names[names.index("trial") + 1 :][:3] == ["baseline", "4", "12*"]
    assert all(cell in text for cell in ("0.900±0.02", "4±0.1", "0.890±0.02", "2±0.1 (0.50)"))


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
    assert half.to_json()["warnings"] == [last.removeprefix("trial 4: ")]


def test_the_leaderboard_shows_what_is_in_int8(plan):
    int8 = replace(plan, deployments=(replace(plan.deployment, precision="int8_ptq"),))
    metrics = Metrics.of({"accuracy": 0.9, "cpu_ms_p50": 1.0})
    rows = [row_of(int8, metrics, int8=0.957, fp32=0.043), row_of(int8, metrics, fp32=0.99, int8=0.01)]
    lines = shown(print_status, STATE | {"leaderboard": rows}).splitlines()
    assert [line[:36].rstrip() for line in lines[-3:-1]] == [
        "fake_vit@28 int8_ptq (96% in int8)",
        "fake_vit@28 int8_ptq (1% in int8)",
    ]
    assert lines[-1] == "fake_vit@28 int8_ptq: int8 in name only: 1% of its MACs, 99% are in fp32"


def test_a_study_without_a_model_says_where_to_look(front):
    text = shown(print_front, replace(front, points=()))
    assert text == "Study fake has no feasible trained model yet: see 'vitsearch status fake'."


def test_a_front_without_a_baseline_has_no_ratios(front):
    text = shown(lambda front, console: console.print(front_table(front, console.width)), replace(front, baseline=None))
    assert "\nbaseline" not in text
    assert "(" not in text


STATE = {
    "study": "fake",
    "emulated": False,
    "trained": 3,
    "wanted": 8,
    "open": 1,
    "waits": None,
    "outcomes": {"dominated": 2, "confirmed": 3},
    "failures": {5: "training failed (not_finite): loss is nan"},
    "cpu_seconds": {"block_structure": 2.4, "train": 61.7, "export": 0.0},
    "busy_share": 0.756,
    "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
    "leaderboard": [],
}


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


def test_a_model_that_predicts_one_class_is_named_under_the_leaderboard(plan):
    metrics = Metrics.of({"accuracy": 0.1}, notes={"accuracy": ONE_CLASS})
    text = shown(print_status, STATE | {"leaderboard": [row_of(plan, metrics)]})
    assert text.splitlines()[-1] == f"fake_vit@28 fp32: accuracy 0.1, but {ONE_CLASS}"


def test_what_was_emulated_is_marked_wherever_it_is_shown(front, plan):
    assert shown(print_front, replace(front, emulated=True)) == "EMULATED: " + FRONT
    rows = [row_of(plan, Metrics.of({"accuracy": 0.8912}))]
    lines = shown(print_status, STATE | {"leaderboard": rows, "emulated": True}).splitlines()
    assert [line.split(":")[0] for line in lines if "EMULATED" in line] == ["EMULATED", "EMULATED"]


def test_a_status_in_words():
    assert shown(print_status, STATE) == (
        "Study fake: 3 of 8 plans trained, 1 in progress\n"
        "Outcomes: 3 confirmed, 2 dominated\n"
        "  trial 5: training failed (not_finite): loss is nan\n"
        "CPU-seconds: 64 (training 62, scoring heads and channels 2); 76% of the cores' time"
    )


def test_a_run_that_waits_for_its_device_is_shown():
    waits = "waits for device nano, no answer for 3 min: no route to host"
    lines = shown(print_status, STATE | {"waits": waits}).splitlines()
    assert lines[1] == f"A run {waits}"


def test_a_status_before_the_first_trial():
    text = shown(print_status, STATE | {"outcomes": {}, "failures": {}, "trained": 0, "open": 0})
    assert text.startswith("Study fake: 0 of 8 plans trained, 0 in progress\nOutcomes: none yet\n")


def test_the_leaderboard_stands_below(plan):
    values = {"accuracy": 0.8912, "cpu_ms_p50": 3.6, "peak_memory_mb": None, "size_mb": None}
    metrics = Metrics.of(values, reasons={"peak_memory_mb": "VmHWM cannot be read"})
    rows = [row_of(plan, metrics)]
    text = shown(print_status, STATE | {"leaderboard": rows, "failures": {}})
    assert "\n".join(text.splitlines()[3:]) == LEADERBOARD


def test_reasons_are_printed_literally():
    state = STATE | {"failures": {5: "exporting failed (crash): no [/home/ada/model.onnx] and no [bold]"}}
    assert "  trial 5: exporting failed (crash): no [/home/ada/model.onnx] and no [bold]" in shown(print_status, state)
