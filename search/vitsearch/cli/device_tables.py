"""The output of `vitsearch devices`, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from rich.console import Console

from vitsearch.cli.printed import PrintedDevice, PrintedJob
from vitsearch.cli.rows import Pairs, Rows
from vitsearch.cli.terminal import Terminal, plain
from vitsearch.devices.connection import connect
from vitsearch.devices.descriptions import DeviceDescription
from vitsearch.devices.registry import KnownDevice
from vitsearch.errors import DeviceLost, ResourceError, UnknownName
from vitsearch_agent.base.printable import printable
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.errors import AgentError, Unauthorized
from vitsearch_agent.measure.figures.combine import CONTENDED_WAIT_OVER_CPU
from vitsearch_agent.wire.protocol import DeviceInfo, JobStatus

_SHORT_ID = 12
_AT_ONCE = 16
R = TypeVar("R")


def overview(devices: Mapping[str, KnownDevice]) -> list[PrintedDevice]:
    """One row for each device. All devices are asked at the same time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_row, devices, devices.values()))


def _row(name: str, device: KnownDevice) -> PrintedDevice:
    try:
        return row(name, device, _ask(name, device, lambda client: client.device()))
    except DeviceLost as error:
        return PrintedDevice(name, device.url, reachable=False, reason=str(error))


def row(name: str, device: KnownDevice, info: DeviceInfo) -> PrintedDevice:
    """The row of a device that answered."""
    return PrintedDevice(
        name,
        device.url,
        reachable=True,
        kind=info.kind,
        board=info.fingerprint.get("board") or info.fingerprint.get("cpu"),
        queued=info.queued,
        running=info.running,
        quarantined=info.quarantined,
    )


def describe(info: DeviceInfo) -> str:
    """A device in words: `NVIDIA Jetson Nano (physical)`."""
    return printable(f"{info.fingerprint.get('board') or info.fingerprint.get('cpu') or 'a device'} ({info.kind})")


def description(name: str, device: KnownDevice) -> DeviceDescription:
    """What the agent reports now, with the date."""
    info = _ask(name, device, lambda client: client.device())
    when = f"Recorded from the agent of {name} on {datetime.now(UTC):%Y-%m-%d}."
    return DeviceDescription(name, {"device": when}, info)


def status(name: str, device: KnownDevice) -> dict[str, Any]:
    """Everything that the agent reports. `queue` is in the order of execution, running jobs first."""

    def ask(client: DeviceClient) -> tuple[DeviceInfo, list[dict[str, Any]], Mapping[str, Any]]:
        queue = [_job(job) | {"last": _last_event(client, job)} for job in client.jobs()]
        return client.device(), queue, client.conditions()

    info, queue, conditions = _ask(name, device, ask)
    return {"name": name, "url": device.url, **info.to_json(), "conditions": dict(conditions), "queue": queue}


def _last_event(client: DeviceClient, job: JobStatus) -> dict[str, Any] | None:
    """The last event of a running job; None for a waiting one."""
    if job.state != "running":
        return None
    events = client.events(job.id)
    return events[-1].to_json() if events else None


def cancel(name: str, device: KnownDevice, beginning: str) -> PrintedJob:
    """Cancel the job whose id begins with `beginning`.

    Raises `UnknownName` when there is no such job, and `ResourceError` when there are several.
    """

    def ask(client: DeviceClient) -> JobStatus:
        ids = [job.id for job in client.jobs()]
        matching = [identifier for identifier in ids if identifier.startswith(beginning.lower())]
        if not ids:
            raise ResourceError(f"device {name}: no job is waiting or running")
        if len(matching) > 1:
            raise ResourceError(
                f"device {name}: the ids of {len(matching)} jobs begin with {beginning!r}; give more of the id"
            )
        if not matching:
            raise UnknownName("waiting or running job", beginning, [identifier[:_SHORT_ID] for identifier in ids])
        return client.cancel(matching[0])

    return PrintedJob(**_job(_ask(name, device, ask)))


def peaks(name: str, device: KnownDevice, runtime: str, threads: int | None) -> dict[str, Any]:
    """The peaks of a device, as its agent reports them. Waits until the agent has measured them."""
    result = _ask(name, device, lambda client: client.peaks(runtime, threads))
    return {"name": name, **result.to_json()}


def print_peaks(rates: dict[str, Any], console: Console | None = None) -> None:
    console = console or Terminal()
    rows = [
        [product["precision"], str(product["threads"]), *_rate_cells(product["gflops"], "GFLOP/s")]
        for product in rates["gemm"]
    ]
    rows.append(["copy", "1", *_rate_cells(rates["copy_gb_per_s"], "GB/s")])
    console.print(Rows(["peak", "threads", "best", "median", "repeats"], rows, ["peak"]))
    for line in _peaks_notes(rates):
        console.print(plain(line), style="dim")


def _rate_cells(rate: dict[str, Any], unit: str) -> tuple[str, str, str]:
    return f"{rate['best']:.4g} {unit}", f"{rate['median']:.4g} {unit}", str(rate["n"])


def _peaks_notes(rates: dict[str, Any]) -> list[str]:
    version, heat, wait = rates["runtime_version"], rates["temperature_c"], rates["wait_over_cpu"]
    notes = [f"{key}: {reason}" for key, reason in rates["reasons"].items()]
    warm = "" if heat is None else f", {heat:.1f} °C"
    runtime = f"{rates['runtime']} {version or ''}".strip()
    notes.append(
        f"{rates['name']}: {runtime}, environment {rates['environment_id'][:_SHORT_ID]}{warm}, {rates['started_at']}"
    )
    if wait is not None and wait > CONTENDED_WAIT_OVER_CPU:
        notes.append(
            f"Other work ran on the device (waited {wait:.0%} of the time it ran), so the true peaks are higher."
        )
    if rates["emulated"]:
        notes.append("EMULATED: these are not the peaks of a real device")
    return notes


def print_overview(rows: list[PrintedDevice], console: Console | None = None) -> None:
    console = console or Terminal()
    if not rows:
        console.print("No device is known here. To add one, run: vitsearch devices add https://nano.local:8470")
        return
    cells = [[row.name, row.url, row.board or "", row.kind or "", _state_of(row)] for row in rows]
    away = [row.name for row in rows if not row.reachable]
    headings = ("device", "address", "board", "kind", "queue")
    console.print(Rows(headings, cells, headings, dimmed=away))
    for row in rows:
        if row.reason:
            console.print(plain(row.reason), style="dim")


def print_status(device: dict[str, Any], console: Console | None = None) -> None:
    console = console or Terminal()
    runtimes = sorted(device["runtimes"], key=lambda runtime: not runtime["available"])
    lines = [(heading, text, "") for heading, text in _lines(device)]
    lines += [("runtime", _runtime_text(entry), "" if entry["available"] else "dim") for entry in runtimes]
    console.print(Pairs(lines))
    if device["queue"]:
        console.print()
        rows = [
            [
                job["id"][:_SHORT_ID],
                job["kind"],
                _state_text(job),
                job["study"],
                "" if job["trial"] is None else str(job["trial"]),
                str(job["attempts"] or ""),
            ]
            for job in device["queue"]
        ]
        headings = ["job", "kind", "state", "study", "trial", "attempt"]
        console.print(Rows(headings, rows, headings[:4]))


def _lines(device: dict[str, Any]) -> list[tuple[str, str]]:
    fingerprint, conditions = device["fingerprint"], device["conditions"]
    temperature = conditions["temperature_c"]
    lines = [
        ("device", f"{device['name']} (id {device['device_id'][:_SHORT_ID]})"),
        ("address", f"{device['url']}, agent {device['agent_version']}"),
        ("board", f"{fingerprint.get('board') or fingerprint.get('cpu') or 'unknown'} ({device['kind']})"),
        ("environment", device["environment_id"][:_SHORT_ID]),
        ("memory", "unknown" if device["memory_mb"] is None else f"{device['memory_mb']} MB"),
        (
            "temperature",
            conditions["reason"] if temperature is None else f"{temperature:.1f} °C ({conditions['zone']})",
        ),
        ("power meter", device["power_meter"] or "none"),
        ("queue", _queue_text(device["queued"], device["running"], device["quarantined"])),
    ]
    for restriction in device["restrictions"]:
        lines.append(
            (
                "restriction",
                f"{restriction['name']}: {'yes' if restriction['holds'] else 'NO'}, {restriction['detail']}",
            )
        )
    if device["quarantined"]:
        lines.append(("QUARANTINED", device["quarantined"]))
    if device["emulation"]:
        lines.append(("EMULATED", ", ".join(f"{key} {value}" for key, value in device["emulation"].items())))
    return lines


def _runtime_text(runtime: dict[str, Any]) -> str:
    if not runtime["available"]:
        return f"{runtime['name']}: {runtime['reason']}"
    limits = [
        f"{what} {runtime[key]}" for what, key in (("opset", "max_opset"), ("IR", "max_ir_version")) if runtime[key]
    ]
    up_to = f", up to {' and '.join(limits)}" if limits else ""
    parts = (f"{runtime['name']} {runtime['version']}{up_to}", ", ".join(runtime["providers"]), runtime["program"])
    return "; ".join(part for part in parts if part)


def _state_of(row: PrintedDevice) -> str:
    return _queue_text(row.queued, row.running, row.quarantined) if row.reachable else "unavailable, see below"


def _queue_text(queued: int | None, running: int | None, quarantined: str | None) -> str:
    return f"{queued} waiting, {running} running" + (", QUARANTINED" if quarantined else "")


def _state_text(job: dict[str, Any]) -> str:
    """The state of a job with its last event: `running: phase latency-2`."""
    last = job["last"]
    if last is None or last["what"] == "started":
        return str(job["state"])
    return " ".join([f"{job['state']}: {last['what']}", *map(str, last["details"].values())])


def _job(job: JobStatus) -> dict[str, Any]:
    who = {"study": job.owner.study, "trial": job.owner.trial}
    return {"id": job.id, "kind": job.kind, "state": job.state, **who, "attempts": job.attempts, "error": job.error}


def _ask(name: str, device: KnownDevice, question: Callable[[DeviceClient], R]) -> R:
    with connect(name, device, "devices") as client:
        try:
            return question(client)
        except Unauthorized as error:
            again = f"vitsearch devices add {device.url} {name}"
            message = f"device {name}: its token was rotated or is wrong; with the right token, run: {again}"
            raise DeviceLost(message) from error
        except AgentError as error:
            raise DeviceLost(f"device {name}: {error}") from error
