"""Models as rows of other tools' tables: timm's benchmark columns, AI Hub's `perf.yaml`, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vitsearch.core.caveats.agreement import agreement_text
from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet
from vitsearch.core.metrics import METRICS, TIMES, is_quality, split
from vitsearch.core.plan import plan_text
from vitsearch.storage.ledger import Ledger
from vitsearch.study.current_figures import devices_of
from vitsearch.study.front import Front, Point
from vitsearch.study.knob_values import SHAPE, knob_values
from vitsearch_agent.base.printable import printable

UNKNOWN_SPREAD = "?"
PRECISIONS = {"fp32": "float", "int8_ptq": "w8a8", "int8_qat": "w8a8"}
"""Our precisions -> the names of AI Hub, where it has one."""


@dataclass(frozen=True)
class Condition:
    """Under what a model was measured last: the name and version of the runtime on the device, and the images of a
    run."""

    runtime: str
    runtime_version: str
    batch: int


Conditions = Mapping[str, Condition]
"""By the graph key of a model. A model that was never measured has none."""


def read_conditions(ledger: Ledger, shown: Sequence[Point], fleets: Mapping[str, Fleet]) -> Conditions:
    """The conditions of the last measurement of each model; of a fleet, of that on its first device."""
    conditions = {}
    for point in shown:
        device_id = next(iter(devices_of(point.keys, fleets).values()))
        if rows_of := ledger.measurements(point.keys.graph_key, device_id):
            last = rows_of[-1].result
            conditions[point.keys.graph_key] = Condition(last["runtime"], last["runtime_version"], last["batch"])
    return conditions


def rows(front: Front, shown: Sequence[Point], conditions: Conditions) -> list[dict[str, Any]]:
    """One row for each model: timm's benchmark columns first, then the trial, its knobs, and every metric with its
    interval (`..._low`, `..._high`). What was not measured is None.

    `infer_step_time` is `latency_ms_p50`, `infer_samples_per_sec` is `throughput_ips`, `infer_gmacs` counts
    matrix products and convolutions, `param_count` is in millions; `top1` and `top1_err` are percentages, on the
    validation split. `infer_img_size` is the side of square images, `192x256` for others.

    Where the images have no labels, `labelled_by` is the network with which `accuracy` is the agreement, and `top1` and
    `top1_err` are None: those of other tables are counted with labels.
    """
    not_counted = {} if front.labelled_by is None else {"top1": None, "top1_err": None}
    on_front = {point.trial for point in front.points}
    return [
        _row(point, conditions.get(point.keys.graph_key))
        | not_counted
        | {"on_front": point.trial in on_front, "emulated": front.emulated, "labelled_by": front.labelled_by}
        for point in shown
    ]


def _row(point: Point, condition: Condition | None) -> dict[str, Any]:
    values, metrics = point.metrics.values, point.metrics
    accuracy = values.get("accuracy")
    top1 = None if accuracy is None else round(100.0 * accuracy, 3)
    timm = {
        "model": point.plan.backbone,
        "infer_samples_per_sec": values.get("throughput_ips"),
        "infer_step_time": values.get("latency_ms_p50"),
        "infer_batch_size": point.plan.deployment.batch if condition is None else condition.batch,
        "infer_img_size": point.plan.resolution.height
        if point.plan.resolution.is_square
        else str(point.plan.resolution),
        "infer_gmacs": _scaled(values.get("macs_m"), 1e-3),
        "param_count": values.get("params_m"),
        "top1": top1,
        "top1_err": None if top1 is None else round(100.0 - top1, 3),
    }
    ours: dict[str, Any] = {"trial": point.trial, "plan": plan_text(point.plan)}
    ours["feasible"] = point.meets_limits
    ours |= {name: value for name, value in knob_values(point.plan).items() if name not in ("resolution", SHAPE)}
    costs = [name for name, metric in METRICS.items() if not metric.is_quality]
    qualities = [name for name in values if is_quality(name)]
    for name in dict.fromkeys([*qualities, *costs, *values]):
        ours[name] = values.get(name)
        if is_quality(name) or name.partition("@")[0] in TIMES:
            ours[f"{name}_low"], ours[f"{name}_high"] = metrics.intervals.get(name, (None, None))
    return timm | ours


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def has_unknown_spread(front: Front, points: Iterable[Point]) -> bool:
    """Whether the interval of an objective is wider than its value for one of the points."""
    return any(_is_unknown(point.metrics, name) for point in points for name in front.objectives)


def columns(front: Front) -> list[str]:
    """The names of the values of `rows`: those of the baseline, once that was measured."""
    baseline_rows = rows(front, [front.baseline], {}) if front.baseline else [{"trial": None}]
    return list(baseline_rows[0])


def to_csv(front: Front, records: Sequence[Mapping[str, Any]]) -> str:
    """The `rows` as CSV with a line of names; what was not measured is empty."""
    text = io.StringIO()
    names, writer = list(records[0]) if records else columns(front), csv.writer(text, lineterminator="\n")
    writer.writerow(map(printable, names))
    writer.writerows([_shown(row.get(name)) for name in names] for row in records)
    return text.getvalue()


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def to_markdown(front: Front, shown: Sequence[Point]) -> str:
    """The models as a Markdown table: trial, plan, objectives with half of their 95 % intervals, size."""
    more = [name for name in ("size_mb",) if name not in front.objectives]
    lines = ["EMULATED: the times are those of an emulated device", ""] if front.emulated else []
    lines += [] if front.labelled_by is None else [printable(agreement_text(front.labelled_by)), ""]
    lines.append(printable("| " + " | ".join(["trial", "plan", *front.objectives, *more]) + " |"))
    lines.append("|" + "|".join([" ---: ", " --- ", *(" ---: " for _ in (*front.objectives, *more))]) + "|")
    for point in (*([front.baseline] if front.baseline else []), *shown):
        name = "baseline" if point.trial is None else str(point.trial)
        cells = [_cell(point, metric) for metric in (*front.objectives, *more)]
        lines.append("| " + " | ".join([name, printable(plan_text(point.plan)).replace("|", "\\|"), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(point: Point, name: str) -> str:
    if point.metrics.value(name) is None:
        return "not measured"
    return " ± ".join(digits(point.metrics, name))


def digits(metrics: Metrics, name: str) -> list[str]:
    """A value and, where it has an interval, half of that: as many digits as tell two models apart. `?` stands for an
    interval that is wider than the value on each side, as of a measurement that was disturbed all the time."""
    value = metrics.value(name)
    assert value is not None  # asked by the caller
    texts = [f"{value:.4f}" if split(name)[0].is_share else _rounded(value, 4)]
    if name in metrics.intervals:
        texts.append(UNKNOWN_SPREAD if _is_unknown(metrics, name) else _rounded(_half_interval(metrics, name), 2))
    return texts


def _half_interval(metrics: Metrics, name: str) -> float:
    low, high = metrics.intervals[name]
    return (high - low) / 2


def _is_unknown(metrics: Metrics, name: str) -> bool:
    value = metrics.value(name)
    return value is not None and name in metrics.intervals and _half_interval(metrics, name) > abs(value)


def _rounded(value: float, significant: int) -> str:
    """Format with this number of significant digits; larger values as whole numbers, without an exponent."""
    return f"{value:.{significant}g}" if abs(value) < 10**significant - 0.5 else f"{value:.0f}"


def to_perf_yaml(front: Front, shown: Sequence[Point], conditions: Conditions) -> str:
    """The models in the shape of AI Hub's `perf.yaml`: precision, component (a model), device, runtime.

    Our own metrics stand beside their names. What is not measured is left out: nothing here counts the layers of each
    compute unit. The peak memory is one value, so `min` and `max` of its range are equal.
    """
    precisions: dict[str, Any] = {}
    for point in shown:
        condition = conditions.get(point.keys.graph_key)
        precision = point.plan.deployment.precision
        components = precisions.setdefault(PRECISIONS.get(precision, precision), {"components": {}})["components"]
        deployment, performance = point.plan.deployment, dict(_perf(point, condition))
        components[printable(f"{plan_text(point.plan)} (trial {point.trial})")] = {
            "performance_metrics": {printable(deployment.device): {printable(deployment.runtime): performance}}
        }
    head: dict[str, Any] = {"emulated": True} if front.emulated else {}
    head |= {} if front.labelled_by is None else {"labelled_by": printable(front.labelled_by)}
    return yaml.safe_dump(head | {"precisions": precisions}, sort_keys=False, allow_unicode=True, width=120)


def _perf(point: Point, condition: Condition | None) -> Iterator[tuple[str, Any]]:
    values = point.metrics.values
    if (latency := values.get("latency_ms_p50")) is not None:
        yield "inference_time_milliseconds", latency
    if (memory := values.get("peak_memory_mb")) is not None:
        yield "estimated_peak_memory_range_mb", {"min": memory, "max": memory}
    yield "primary_compute_unit", point.plan.deployment.provider.upper()
    if condition is not None:
        yield "job_status", "Passed"
        yield "tool_versions", {printable(condition.runtime): printable(condition.runtime_version)}
    yield "trial", point.trial
    for name, value in values.items():
        if value is not None:
            yield printable(name), value
