"""Models as rows of other tools' tables."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
import yaml

from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.record import Keys
from vitsearch.study.front import Front, Point
from vitsearch.study.results.exports import Condition, digits, rows, to_csv, to_markdown, to_perf_yaml

VALUES = {
    "accuracy": 0.8765,
    "latency_ms_p50": 2.5,
    "throughput_ips": 390.0,
    "macs_m": 1200.0,
    "params_m": 5.7,
    "size_mb": 22.8,
    "peak_memory_mb": 40.0,
    "energy_mj": None,
}
CONDITIONS = {"g": Condition("trtexec", "10.3", 1)}


@pytest.fixture
def front(plan):
    metrics = Metrics.of(VALUES, {"accuracy": (0.86, 0.89), "latency_ms_p50": (2.4, 2.6)})
    point = Point(7, plan, Keys("w", "g", "a", "d"), metrics)
    baseline = replace(point, trial=None, metrics=Metrics.of({"accuracy": 0.9, "latency_ms_p50": 5.0}))
    return Front("fake", ("accuracy", "latency_ms_p50"), baseline, (point,), 0)


def test_a_row_has_the_columns_of_timms_benchmark_first(front):
    (row,) = rows(front, front.points, CONDITIONS)
    assert list(row)[:9] == [
        "model",
        "infer_samples_per_sec",
        "infer_step_time",
        "infer_batch_size",
        "infer_img_size",
        "infer_gmacs",
        "param_count",
        "top1",
        "top1_err",
    ]
    assert list(row.values())[:9] == ["fake_vit", 390.0, 2.5, 1, 28, 1.2, 5.7, 87.65, 12.35]
    assert (row["trial"], row["on_front"], row["latency_ms_p50_low"], row["energy_mj"]) == (7, True, 2.4, None)


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (2.5, (2.4, 2.6), ["2.5", "0.1"]),
        (475.2, (255.0, 695.0), ["475.2", "220"]),
        (12345.6, (12000.0, 12700.0), ["12346", "350"]),
        (594.3, (3.0, 2.4e10), ["594.3", "?"]),
        (99.7, (0.5, 199.5), ["99.7", "100"]),
    ],
)
def test_a_value_has_half_of_its_interval_and_one_that_is_wider_than_it_is_unknown(value, interval, shown):
    metrics = Metrics.of({"latency_ms_p50": value}, {"latency_ms_p50": interval})
    assert digits(metrics, "latency_ms_p50") == shown


def test_the_size_of_a_rectangle_is_its_name(front):
    (point,) = front.points
    wide = replace(point, plan=replace(point.plan, resolution=ImageSize(192, 256)))
    (row,) = csv.DictReader(io.StringIO(to_csv(front, rows(front, [wide], {}))))
    assert row["infer_img_size"] == "192x256"


def test_csv_leaves_empty_what_was_not_measured(front):
    text = to_csv(front, rows(front, front.points, {}))
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["model"], row["infer_step_time"], row["energy_mj"]) == ("fake_vit", "2.5", "")


def test_csv_without_a_model_is_the_line_of_names(front):
    lines = to_csv(replace(front, points=()), []).splitlines()
    assert lines == to_csv(front, rows(front, front.points, {})).splitlines()[:1]


def test_markdown_has_intervals_and_the_baseline(front):
    assert to_markdown(front, front.points) == (
        "| trial | plan | accuracy | latency_ms_p50 | size_mb |\n"
        "| ---: | --- | ---: | ---: | ---: |\n"
        "| baseline | fake_vit@28 fp32 | 0.9000 | 5 | not measured |\n"
        "| 7 | fake_vit@28 fp32 | 0.8765 ± 0.015 | 2.5 ± 0.1 | 22.8 |\n"
    )


def test_perf_yaml_has_the_shape_of_ai_hub(front):
    value = yaml.safe_load(to_perf_yaml(front, front.points, CONDITIONS))
    components = value["precisions"]["float"]["components"]
    metrics = components["fake_vit@28 fp32 (trial 7)"]["performance_metrics"]["local"]["onnxruntime"]
    assert metrics["inference_time_milliseconds"] == 2.5
    assert metrics["estimated_peak_memory_range_mb"] == {"min": 40.0, "max": 40.0}
    assert (metrics["primary_compute_unit"], metrics["job_status"]) == ("CPU", "Passed")
    assert metrics["tool_versions"] == {"trtexec": "10.3"}
    assert "energy_mj" not in metrics


def test_perf_yaml_of_a_model_without_a_measurement_claims_no_job(front):
    assert "job_status" not in to_perf_yaml(front, front.points, {})


def test_emulated_times_are_marked_in_every_form(front):
    emulated = replace(front, emulated=True)
    assert rows(emulated, front.points, {})[0]["emulated"] is True
    assert to_markdown(emulated, front.points).startswith("EMULATED: the times are those of an emulated device\n\n| ")
    assert yaml.safe_load(to_perf_yaml(emulated, front.points, {}))["emulated"] is True


def test_an_accuracy_without_labels_is_marked_in_every_form(front):
    unlabelled = replace(front, labelled_by="theirs")
    (row,) = rows(unlabelled, front.points, {})
    assert (row["labelled_by"], row["top1"], row["top1_err"], row["accuracy"]) == ("theirs", None, None, 0.8765)
    assert list(row) == list(rows(front, front.points, {})[0])
    (cells,) = csv.DictReader(io.StringIO(to_csv(unlabelled, [row])))
    assert (cells["labelled_by"], cells["top1"], cells["top1_err"]) == ("theirs", "", "")
    said = to_markdown(replace(unlabelled, emulated=True), front.points)
    assert said.startswith(
        "EMULATED: the times are those of an emulated device\n\n"
        "accuracy is the agreement with the fp32 outputs of theirs itself in onnxruntime, as the images "
        "have no labels: "
    )
    assert "\n\n| trial |" in said
    assert yaml.safe_load(to_perf_yaml(unlabelled, front.points, {}))["labelled_by"] == "theirs"


def test_labelled_images_need_no_word(front):
    assert rows(front, front.points, {})[0]["labelled_by"] is None
    assert "labelled_by" not in to_perf_yaml(front, front.points, {})
    assert "agreement" not in to_markdown(front, front.points)


INVISIBLE = "x\x1b[2J\x07\r\n\x7f\x9b31m\u200e\u202e\u2066"


@pytest.fixture
def hostile(front):
    """A front in whose names everything stands that a terminal obeys."""
    plan = front.points[0].plan
    plan = replace(
        plan,
        backbone=f"vit{INVISIBLE}",
        deployments=(replace(plan.deployment, device=f"board{INVISIBLE}", runtime=f"run{INVISIBLE}"),),
    )
    metrics = Metrics.of({**VALUES, f"latency_ms_p50@board{INVISIBLE}": 2.5})
    point = replace(front.points[0], plan=plan, metrics=metrics)
    objectives = ("accuracy", f"latency_ms_p50@board{INVISIBLE}")
    names = {"objectives": objectives, "labelled_by": f"net{INVISIBLE}"}
    return replace(front, points=(point,), baseline=replace(point, trial=None), **names)


@pytest.mark.parametrize(
    "form",
    [
        lambda front: to_csv(front, rows(front, front.points, CONDITIONS)),
        lambda front: to_csv(front, []),
        lambda front: to_markdown(front, front.points),
        lambda front: to_perf_yaml(front, front.points, {"g": Condition(f"run{INVISIBLE}", f"1{INVISIBLE}", 1)}),
    ],
    ids=["csv", "csv of no model", "markdown", "perf.yaml"],
)
def test_names_are_shown_with_escapes_for_what_nobody_sees(hostile, form):
    said = form(hostile)
    assert {character for character in said if not character.isprintable()} == {"\n"}
    assert "x\\x1b[2J\\x07\\r\\n" in said.replace("\\\\", "\\")
