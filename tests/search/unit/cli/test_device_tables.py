"""Text from devices is printed literally."""

from __future__ import annotations

import io

from rich.console import Console

from vitsearch.cli import device_tables
from vitsearch.cli.printed import PrintedDevice


def test_text_of_a_device_is_printed_literally():
    board = "Rev [/b] [bold]x \x1b[2J"
    row = PrintedDevice("nano", "http://nano:1", True, "[/dim] gone", "physical", board, queued=1, running=0)
    console = Console(file=io.StringIO(), width=200)
    device_tables.print_overview([row], console)
    shown = console.file.getvalue()
    assert "Rev [/b] [bold]x \\x1b[2J" in shown
    assert "[/dim] gone" in shown


def test_reasons_of_missing_peaks_are_printed_literally():
    rate = {"best": 2.0, "median": 1.0, "n": 9}
    rates = {"gemm": [], "copy_gb_per_s": rate, "temperature_c": None, "wait_over_cpu": None, "emulated": False}
    rates |= {"runtime_version": "1", "runtime": "onnxruntime", "name": "nano", "environment_id": "e" * 64}
    rates |= {"started_at": "2026-01-02T03:04:05Z", "reasons": {"int8": "[ONNXRuntimeError] : 9 [/x] \x1b[2J"}}
    console = Console(file=io.StringIO(), width=200)
    device_tables.print_peaks(rates, console)
    assert "int8: [ONNXRuntimeError] : 9 [/x] \\x1b[2J" in console.file.getvalue()


def test_the_queue_shows_each_job_and_the_last_event_of_the_running_one():
    device = {"name": "nano", "url": "http://nano:1", "agent_version": "1", "device_id": "d" * 64, "kind": "physical"}
    device |= {"fingerprint": {"board": "Nano"}, "environment_id": "e" * 64, "memory_mb": None, "power_meter": None}
    device |= {"queued": 1, "running": 1, "quarantined": None, "emulation": None}
    device["restrictions"] = [{"name": "files", "holds": False, "detail": "no Landlock: Linux 5.13 or newer"}]
    device |= {"conditions": {"temperature_c": 41.5, "zone": "CPU", "reason": None}}
    absent = {"name": "openvino", "available": False, "reason": "no module"}
    here = {"name": "noop", "available": True, "version": "1", "max_opset": None, "max_ir_version": None}
    device["runtimes"] = [absent, here | {"providers": [], "program": None}]
    running = {"id": "a" * 64, "kind": "measure", "state": "running", "study": "anna", "trial": 3, "attempts": 1}
    waiting = {"id": "b" * 64, "kind": "peaks", "state": "queued", "study": "ben", "trial": None, "attempts": 0}
    last = {"n": 3, "what": "phase", "at": "2026-01-02T03:04:05Z", "details": {"phase": "power"}}
    device["queue"] = [running | {"last": last}, waiting | {"last": None}]
    console = Console(file=io.StringIO(), width=100)
    device_tables.print_status(device, console)
    words = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["a" * 12, "measure", "running:", "phase", "power", "anna", "3", "1"] in words
    assert ["restriction", "files:", "NO,", "no", "Landlock:", "Linux", "5.13", "or", "newer"] in words
    assert ["b" * 12, "peaks", "queued", "ben"] in words
    assert words.index(["runtime", "noop", "1"]) < words.index(["runtime", "openvino:", "no", "module"])
