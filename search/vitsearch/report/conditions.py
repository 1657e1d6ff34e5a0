"""How the figures of a study were measured: devices, protocols, runtimes, data, software, runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vitsearch.core.device_identity import NamedDevice, stored_devices
from vitsearch.core.fleet import Fleet, stored_fleets
from vitsearch.core.image_size import ImageSize
from vitsearch.core.limits import Bound
from vitsearch.report.trials import ShownTrial
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.ledger.costs import Run
from vitsearch.study.current_figures import devices_of

Result = Mapping[str, Any]
"""A measurement in its JSON form."""
OF_MEASUREMENTS = (
    *("protocol", "runtime", "environment", "times are", "measurements", "from", "to"),
    *("flags", "waited for a core", "hottest"),
)


@dataclass(frozen=True)
class ConditionTable:
    """A table: its heading, the names of its columns, its rows."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def conditions(
    trials: Sequence[ShownTrial],
    ledger: Ledger,
    attributes: Mapping[str, Any],
    limits: Sequence[Bound],
    runs: Sequence[Run],
) -> tuple[ConditionTable, ...]:
    """Everything that a reader needs to judge the figures, or to measure them again."""
    fleets = stored_fleets(attributes)
    results = list(_results(trials, ledger, fleets))
    devices = _devices(trials, results, fleets, stored_devices(attributes))
    tables = (
        ConditionTable("Devices", ("device", "hardware", "kind", "id", "measurements"), tuple(devices)),
        ConditionTable(
            "Measurements",
            (
                "protocol",
                "runtime",
                "environment",
                "times are",
                "measurements",
                "from",
                "to",
                "flags",
                "waited",
                "hottest",
            ),
            tuple(_measurements(results)),
        ),
        _protocols(results),
        ConditionTable("Data", ("what", "value"), tuple(_data(attributes.get("data") or {}))),
        ConditionTable(
            "Limits", ("metric", "bound"), tuple((each.metric, f"{each.sense} {each.value:.6g}") for each in limits)
        ),
        ConditionTable("Software", ("library", "versions"), tuple(_software(trials, ledger.artifact_versions()))),
        ConditionTable("Runs", ("host", "cores", "from", "to"), tuple(_runs(runs))),
    )
    return tuple(table for table in tables if table.rows)


def _results(trials: Iterable[ShownTrial], ledger: Ledger, fleets: Mapping[str, Fleet]) -> Iterator[Result]:
    """All measurements of the study's graphs."""
    graphs: dict[str, set[str]] = {}
    for trial in trials:
        if trial.keys is not None:
            for device in devices_of(trial.keys, fleets).values():
                graphs.setdefault(device, set()).add(trial.keys.graph_key)
    for device, of_study in graphs.items():
        for row in ledger.measurements_of_device(device):
            if row.graph_key in of_study:
                yield row.measurement.to_json()


def _devices(
    trials: Iterable[ShownTrial],
    results: Iterable[Result],
    fleets: Mapping[str, Fleet],
    stored: Mapping[str, NamedDevice],
) -> Iterator[tuple[str, ...]]:
    counts = Counter(str(result["device_id"]) for result in results)
    names = {
        device: name or trial.plan.deployment.device
        for trial in trials
        if trial.keys is not None
        for name, device in devices_of(trial.keys, fleets).items()
    }
    for device, name in names.items():
        if named := stored.get(name):
            shown = named.label, named.latest.hardware.describe(), named.latest.kind
        else:
            shown = name, "", ""
        yield *shown, device, str(counts[device])


def _measurements(results: Iterable[Result]) -> Iterator[tuple[str, ...]]:
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        runtime = f"{result['runtime']} {result['runtime_version']}"
        key = _protocol(result), runtime, str(result["environment_id"])[:12], str(result["basis"])
        groups.setdefault(key, []).append(result)
    for names, group in sorted(groups.items()):
        times = sorted(str(result["started_at"]) for result in group)
        flags = Counter(flag for result in group for flag in result["flags"])
        waits = [wait for result in group if (wait := result["contention"]["wait_over_cpu"]) is not None]
        hottest = [result["temperature"]["max_c"] for result in group if result["temperature"]]
        yield (
            *names,
            str(len(group)),
            times[0],
            times[-1],
            ", ".join(f"{flag} {count}" for flag, count in sorted(flags.items())) or "none",
            f"{statistics.median(waits):.1%} of the CPU time" if waits else "not known",
            f"{max(hottest):.0f} °C" if hottest else "no sensor",
        )


def _protocol(result: Result) -> str:
    """The id of a protocol, with the threads of the deployment that was measured by it."""
    name, threads = str(result["protocol"]["id"]), int(result["protocol"]["threads"])
    return name if threads == 1 else f"{name}, {threads} threads"


def _protocols(results: Iterable[Result]) -> ConditionTable:
    """A column for each protocol, a row for each setting that one of them has."""
    protocols = {_protocol(result): result["protocol"] for result in results}
    names = sorted(protocols)
    settings = dict.fromkeys(setting for name in names for setting in protocols[name] if setting != "id")
    rows = ((setting, *(_setting(protocols[name].get(setting)) for name in names)) for setting in settings)
    return ConditionTable("Protocols", ("setting", *names), tuple(row for row in rows if any(row[1:])))


def _setting(value: Any) -> str:
    """A number or a digest; nothing for a phase that a protocol does not have."""
    return "" if value in (None, 0, 0.0) else f"{value:g}" if isinstance(value, float) else str(value)


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name in ("fingerprint", "image_size", "channels", "mean", "std"):
        if data.get(name) is not None:
            yield name, str(ImageSize.of(data[name]) if name == "image_size" else data[name])
    for name, split in data.get("splits", {}).items():
        yield f"{name} images", str(split["images"])
    if classes := data.get("class_names"):
        yield "classes", f"{len(classes)}: {', '.join(map(str, classes[:20]))}{', ...' if len(classes) > 20 else ''}"


def _software(trials: Iterable[ShownTrial], versions: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, ...]]:
    by_library: dict[str, set[str]] = {}
    for trial in trials:
        key = trial.keys.artifact_key if trial.keys else None
        for library, version in versions.get(key or "", {}).items():
            by_library.setdefault(library, set()).add(version)
    for library, seen in sorted(by_library.items()):
        yield library, ", ".join(sorted(seen))


def _runs(runs: Iterable[Run]) -> Iterator[tuple[str, ...]]:
    for run in runs:
        yield run.host, str(run.cores), utc(run.started_at), utc(run.seen_at)


def utc(time_s: float) -> str:
    """A time in seconds since 1970, such as `2026-11-27T04:30:02Z`."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
