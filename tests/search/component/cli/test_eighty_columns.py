"""Every table in a terminal of 80 columns, with long names: each value is there, in one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vitsearch as vs
from support.terminal import shown
from vitsearch.cli import device_tables, tables
from vitsearch.cli.capabilities import COLUMNS, print_check
from vitsearch.cli.checking import backbone_table
from vitsearch.cli.doctor import print_devices, print_machine
from vitsearch.cli.live import LiveView
from vitsearch.cli.printed import PrintedDevice
from vitsearch.cli.results.compare import print_comparison
from vitsearch.cli.results.explain import print_explanation
from vitsearch.cli.results.front import print_front, print_models
from vitsearch.cli.results.show import print_classes, print_detail
from vitsearch.cli.results.studies import print_databases
from vitsearch.core.backbone_check import BackboneCheck, FileCheck
from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.record import Keys, Record
from vitsearch.devices.survey import DevicePart, DeviceSurvey
from vitsearch.search.admin.housekeeping import StoredDatabase, StudySummary
from vitsearch.search.check.machine import Machine
from vitsearch.search.check.unpruned_costs import BackboneCosts
from vitsearch.study.dropped_backbones import DroppedBackbone
from vitsearch.study.front import Front, Point
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.explanation import Explanation
from vitsearch.study.results.objectives import ObjectiveEffects
from vitsearch.study.status import DiskUse, LeaderboardRow, PrintedLiveRun, Status
from vitsearch.tasks.classification.confusion import ClassAccuracy

DEVICES = [f"{which}-of-the-orchard-behind-the-old-mill-{which[:2]}" for which in ("nano", "orin")]
HOST = f"{'h' * 34}.local"
PLACE = "s3://models-of-all-orchards/leaves-and-bark-of-all-trees/2026-autumn"
URL = f"https://{HOST}:8470"
STUDY = "leaves-and-bark-of-all-trees-of-the-orchard-2026-autumn"
BACKBONE = "efficientformerv2_s0.snap_dist_in1k"
FLEET = {f"cpu_ms_p50@{name}": value for name, value in zip(DEVICES, (1.5123, 2.5678), strict=True)}
FIGURES = {"accuracy": 0.8712, "cpu_ms_p50": 2.5678, **FLEET, "latency_ms_p50": 3.1, "size_mb": 4.25, "params_m": 1.25}


COPIED = ("install:", "run:", "file:")
"""Marks of lines that a person copies, which stay in one piece."""


def words(show, *what):
    """The words that are printed at 80 columns."""
    text = shown(show, *what, width=80)
    assert "…" not in text
    wide = [line for line in text.splitlines() if len(line) > 80 and len(line.split()) > 2]
    assert all(any(mark in line for mark in COPIED) for line in wide), wide
    return [word.strip(",:;()") for word in text.split()]


def has(said, *values):
    assert [value for value in values if value.strip(",:;()") not in said] == []


@pytest.fixture
def long_plan(plan):
    deployment = replace(plan.deployment, device=DEVICES[0])
    return replace(plan, backbone=BACKBONE, deployments=(deployment,))


@pytest.fixture
def fleet(long_plan):
    keys = Keys("w", "g", "a", "d")
    intervals = {name: (value * 0.97, value * 1.03) for name, value in FIGURES.items()}
    points = tuple(
        Point(number, replace(long_plan, resolution=ImageSize.square(resolution)), keys, Metrics.of(FIGURES, intervals))
        for number, resolution in ((4, 160), (12, 192))
    )
    shown_device = ", ".join(DEVICES)
    baseline = Point(None, long_plan, keys, Metrics.of(FIGURES, intervals))
    return Front(STUDY, ("accuracy", "cpu_ms_p50"), baseline, points, 1, shown_device=shown_device)


@pytest.mark.parametrize("show", [print_front, print_models])
def test_the_front_of_a_fleet(show, fleet):
    said = words(show, fleet)
    has(said, STUDY, *DEVICES, *FLEET, f"{BACKBONE}@160", f"{BACKBONE}@192", "baseline", "4", "12*", "0.8712±0.026")


def test_the_state_of_a_study(long_plan):
    metrics = Metrics.of(FIGURES)
    run = PrintedLiveRun(
        user="ana-of-the-orchard",
        host=HOST,
        pid=12,
        purpose="search",
        since="2026-11-29T18:00:00+00:00",
        doing={f"training a base: {BACKBONE}": "epoch 2/5, train accuracy 0.61, 3 min left"},
        waits=None,
    )
    state = Status(
        study=STUDY,
        emulated=False,
        devices=tuple(DEVICES),
        trained=3,
        wanted=8,
        open=1,
        runs=(run,),
        search_end=None,
        space_changes=(),
        waits=f"waits for device {DEVICES[0]}, no answer for 3 min: {URL} refused the connection",
        outcomes={"dominated": 2},
        failures={5: f"measuring failed (timeout): device {DEVICES[1]}, {BACKBONE}@160"},
        objectives={"accuracy": "maximize", "cpu_ms_p50": "minimize"},
        data=None,
        reference_point=None,
        leaderboard=(LeaderboardRow(**vars(metrics.printed()), plan=long_plan.to_json(), shares={}, warnings=()),),
        quality_warnings=(),
        cpu_seconds={"train": 61.7},
        busy_share=None,
        trainer_seconds=61.2,
        device_seconds=80.4,
        reused_seconds=0.0,
        wall_seconds=100.0,
        eta=None,
        disk=DiskUse(3_400_000, None, PLACE, 0, 95_000_000, 20_400, (), is_complete=True),
    )
    has(
        words(tables.print_status, state), STUDY, *DEVICES, HOST, PLACE, URL, *FLEET, f"{BACKBONE}@28", "1.512", "2.568"
    )


def test_devices_and_their_addresses():
    rows = [
        PrintedDevice(name, URL, away is None, away, "physical", "Jetson Nano", queued=3, running=1)
        for name, away in zip(DEVICES, (None, f"device {DEVICES[1]}: {URL} does not answer"), strict=True)
    ]
    has(words(device_tables.print_overview, rows), *DEVICES, URL, "Jetson", "physical", "unavailable")


def test_devices_with_short_names_are_lines():
    url, board = "https://nano.local:8470", "NVIDIA Jetson Nano"
    row = PrintedDevice("nano", url, True, None, "physical", board, queued=0, running=0)
    text = shown(device_tables.print_overview, [row], width=80)
    assert "https://nano.local:8470" in text
    assert text.splitlines()[0].split() == ["device", "address", "board", "kind", "queue"]


def test_the_queue_of_a_device():
    status = {"name": DEVICES[0], "url": URL, "agent_version": "1", "device_id": "d" * 64, "kind": "physical"}
    status |= {"fingerprint": {"board": "Nano"}, "environment_id": "e" * 64, "memory_mb": None, "power_meter": None}
    status |= {"queued": 1, "running": 1, "quarantined": None, "emulation": None, "restrictions": []}
    status |= {"conditions": {"temperature_c": 41.5, "zone": "CPU", "reason": None}, "runtimes": []}
    job = {"id": "a" * 64, "kind": "measure", "state": "running", "study": STUDY, "trial": 3, "attempts": 1}
    last = {"n": 3, "what": "phase", "at": "2026-01-02T03:04:05Z", "details": {"phase": "power"}}
    status["queue"] = [job | {"last": last}]
    has(words(device_tables.print_status, status), DEVICES[0], URL, STUDY, "a" * 12, "power", "d" * 12)


def test_the_peaks_of_a_device():
    rate = {"best": 123.4, "median": 120.1, "n": 9}
    rates = {"gemm": [{"precision": "int8_dynamic", "threads": 16, "gflops": rate}], "copy_gb_per_s": rate}
    rates |= {"temperature_c": 41.5, "wait_over_cpu": None, "emulated": False, "reasons": {}, "runtime": "onnxruntime"}
    rates |= {"runtime_version": "1.22", "name": DEVICES[0], "environment_id": "e" * 64, "started_at": "2026-01-02"}
    has(words(device_tables.print_peaks, rates), DEVICES[0], "int8_dynamic", "123.4", "120.1", "GFLOP/s", "e" * 12)


def test_the_studies_of_a_folder():
    databases = [StoredDatabase(Path(f"{STUDY}.db"), (StudySummary(STUDY, 123, 45, 6, 1.7e9),), 10**9, 10**9)]
    folder = Path("/srv/studies-of-the-orchard")
    has(words(print_databases, folder, databases), STUDY, f"{STUDY}.db", "2023-11-14", "22:13", str(folder), "123")


def test_what_was_tried_of_a_backbone():
    shares = {"int8": 0.957, "fp32": 0.043}
    file = FileCheck("onnxruntime", "int8_dynamic", "linear_and_convolution", False, None, 0.1, 123.45, 678.9, shares)
    said = words(
        print_check, BackboneCheck(BACKBONE, "efficientformer_v2", ImageSize.square(224), 3.5, 400.0, None, (file,))
    )
    has(said, BACKBONE, *COLUMNS, "onnxruntime", "works", "1.0e-01", "123.45", "678.90", "96%")


def test_what_a_machine_and_a_device_lack():
    parts = (DevicePart("onnxruntime", True, "fp32, fp16, int8_dynamic, int8_ptq, int8_qat, int8_weights, int8_mixed"),)
    lacking = DevicePart(
        "openvino", False, f"no library below {'/srv' * 12}", "pip install 'vitsearch-agent[openvino]'"
    )
    machine = Machine("3.11", "0.1", "Linux", 2, 8.0, 40.0, None, {"writes files for": (*parts, lacking)})
    has(words(print_machine, machine), "int8_mixed", "/srv" * 12, "'vitsearch-agent[openvino]'")
    reason = f"its token is wrong; with the right token, run: vitsearch devices add {URL} {DEVICES[0]}"
    away = DeviceSurvey(DEVICES[0], URL, reason)
    assert f"run: vitsearch devices add {URL} {DEVICES[0]}" in shown(print_devices, [away], width=80)
    has(words(print_devices, [away]), URL, DEVICES[0])


def test_one_model_and_two_models(finished):
    stored = vs.open_study(finished.folder / "fake.db")
    trial = stored.front().points[0].trial
    detail = stored.show(trial)
    long = replace(detail, point=replace(detail.point, plan=replace(detail.point.plan, backbone=BACKBONE)))
    said = words(print_detail, long)
    has(said, f"{BACKBONE}@{detail.point.plan.resolution}", detail.file.sha256, *detail.point.metrics.figures)
    two = stored.compare(None, trial)
    has(
        words(print_comparison, two),
        *(metric.name for metric in two.metrics if metric.first or metric.second),
        *two.knobs,
    )


def test_classes_with_long_names():
    row = ClassAccuracy("c" * 45, 20, 10, 0.3, 0.7, 40, "d" * 45, 7)
    has(words(print_classes, [row]), "c" * 45, "d" * 45, "0.300", "0.700", "0.250")


def test_what_each_knob_did():
    effect = Effect("quantization in openvino", "fp32", "int8_ptq", 0.01, -0.02, 0.04, 4)
    backbone = BackboneEffects(BACKBONE, 12, 0.95, (effect,))
    metric = next(iter(FLEET))
    objective = ObjectiveEffects(metric, (backbone,), {"deployment": 0.4}, 0.97, 12, 0)
    explanation = Explanation(STUDY, False, (objective,), (), shown_devices=tuple(DEVICES))
    has(words(print_explanation, explanation), STUDY, *DEVICES, metric, BACKBONE, "int8_ptq", "deployment")


def test_the_live_view(long_plan):
    view = LiveView(("accuracy", *FLEET))
    metrics = Metrics.of({"accuracy": 0.8712, **FLEET})
    view.ended(1, Record("confirmed", long_plan, metrics=metrics))
    said = words(lambda console: console.print(view))
    has(said, f"{BACKBONE}@28", *FLEET, "0.8712", "1.512", "2.568")


def test_the_backbones_of_a_space():
    costs = BackboneCosts(
        BACKBONE,
        (
            ImageSize.square(128),
            ImageSize.square(160),
            ImageSize.square(192),
            ImageSize.square(224),
            ImageSize.square(256),
        ),
        ImageSize.square(224),
        12345.6,
        3.59,
        24,
        1234.0,
    )
    said = words(lambda console: console.print(backbone_table([costs])))
    has(said, BACKBONE, "128", "256", "12,346", "3.59", "24", "20.6", "[min]")


def test_a_backbone_that_is_not_searched():
    metric = next(iter(FLEET))
    dropped = DroppedBackbone(BACKBONE, f"{BACKBONE}@224 ffn-50% int8_ptq", f"has {metric} 6.007, above 3", 7)
    explanation = Explanation(STUDY, False, (), (), dropped=(dropped,))
    has(words(print_explanation, explanation), "searched", BACKBONE, f"{BACKBONE}@224", metric, "6.007", "7")
