"""The output of `vitsearch doctor`: what can run here and on each known device, and what installs the rest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import typer
from rich.console import Console

from vitsearch.cli.rows import Pairs
from vitsearch.cli.terminal import Terminal
from vitsearch.core.json_value import json_text
from vitsearch.devices.registry import DeviceBook
from vitsearch.devices.survey import DevicePart, DeviceSurvey, survey
from vitsearch.search.check.machine import Machine, this_machine
from vitsearch.search.check.weights_hub import weights_hub
from vitsearch_agent.base.printable import printable


@dataclass(frozen=True)
class PrintedDoctor:
    """What can run here and on devices."""

    machine: Machine
    """This machine."""
    devices: tuple[DeviceSurvey, ...]
    """Each known device."""


def examine(as_json: bool) -> bool:
    """Print what is there and what is missing; returns whether every known device answers."""
    here, devices = this_machine(), survey(DeviceBook.of_user(os.environ).devices())
    machine = replace(here, parts=here.parts | {"network": (weights_hub(os.environ),)})
    if as_json:
        typer.echo(json_text(PrintedDoctor(machine, tuple(devices))))
    else:
        print_machine(machine)
        print_devices(devices)
    return all(device.reason is None for device in devices)


def print_machine(machine: Machine, console: Console | None = None) -> None:
    console = console or Terminal()
    memory = "" if machine.memory_gb is None else f", {machine.memory_gb:.1f} GB of memory"
    console.print("This machine", style="bold")
    _line(console, f"vitsearch {machine.vitsearch}, Python {machine.python}, {machine.system}")
    _line(console, f"{machine.cores} cores{memory}, {machine.disk_free_gb:.0f} GB free on this disk")
    _line(console, f"GPU: {machine.gpu or 'none that torch finds'}")
    for group, parts in machine.parts.items():
        console.print(group, markup=False)
        _print_parts(parts, console)


def print_devices(devices: Sequence[DeviceSurvey], console: Console | None = None) -> None:
    console = console or Terminal()
    if not devices:
        console.print("No device is known here. To add one, run:")
        _command(console, "  vitsearch devices add https://nano.local:8470")
    for device in devices:
        console.print(printable(f"Device {device.name} ({device.board or device.url})"), style="bold", markup=False)
        if device.reason is not None:
            _command(console, f"  does not answer: {device.reason}", "yellow")
        _print_parts(device.parts, console)


def _print_parts(parts: Sequence[DevicePart], console: Console) -> None:
    width = max((len(part.name) for part in parts), default=0)
    for part in parts:
        name = f"  {'yes' if part.works else 'no '} {part.name:<{width}}"
        console.print(Pairs([(name, part.detail, "" if part.works else "dim")]))
        if part.install is not None:
            _command(console, f"      to install: {part.install}")


def _line(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, highlight=False)


def _command(console: Console, text: str, style: str | None = None) -> None:
    """In one piece, so that a command can be copied."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)
