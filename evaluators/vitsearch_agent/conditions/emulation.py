"""Emulated devices.

A script writes the readings of an emulated device (temperatures, power, counters) to a tree of files
with the layout of /sys and /proc. The output of a command is a file below `/commands` named after the
command line. The emulation never reads the machine that it runs on.
"""

import os
from typing import Any, Dict, Optional, Sequence

from vitsearch_agent.base.atomic_files import replacing
from vitsearch_agent.base.system import THIS_MACHINE, NoStream, Output, System
from vitsearch_agent.conditions.processor import cpu_model
from vitsearch_agent.config import EmulationConfig
from vitsearch_agent.wire.measurement import Latency, Measurement
from vitsearch_agent.wire.paired import Paired

_FOLDER = "emulated"


class DeviceTree:
    """Write the file tree of an emulated device.

    Each file is replaced atomically: a reader sees the old value or the new one.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def write(self, path: str, value: Any) -> None:
        """Write a file; `path` is the absolute path on the device."""
        full = os.path.join(self.root, path.lstrip("/"))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with replacing(full, sync=False) as stream:
            stream.write(f"{value}\n".encode())

    def zone(self, index: int, kind: str, millidegrees: Any) -> None:
        """Write a thermal zone."""
        folder = f"/sys/class/thermal/thermal_zone{index}"
        self.write(f"{folder}/type", kind)
        self.write(f"{folder}/temp", millidegrees)

    def over_current(self, events: int, hwmon: int = 3) -> None:
        """Write the over-current counters of a Jetson Orin; `events` is the count of oc3."""
        folder = f"/sys/class/hwmon/hwmon{hwmon}"
        self.write(f"{folder}/name", "soctherm_oc")
        for number, count in (("1", 0), ("2", 0), ("3", events)):
            self.write(f"{folder}/oc{number}_event_cnt", count)

    def command(self, argv: Sequence[str], stdout: str) -> None:
        """Set what a command prints."""
        self.write(_command_path(argv), stdout)


def system_of(config: Optional[EmulationConfig], state: str) -> System:
    """Return the system to read: the emulated one if the configuration has one, otherwise this machine."""
    return THIS_MACHINE if config is None else emulated_system(config, state)


def emulated_system(config: EmulationConfig, state: str) -> System:
    """Return the system of an emulated device; its tree is `config.root`, by default `STATE/emulated`."""
    files = System(config.root or os.path.join(state, _FOLDER))

    def run(argv: Sequence[str]) -> Output:
        reading = files.read(_command_path(argv))
        if reading.text is None:
            return Output("", f"{argv[0]} cannot be run: the emulated device does not have it")
        return Output(reading.text + "\n", None)

    return files._replace(run=run, stream=NoStream)


def describe(config: EmulationConfig) -> Dict[str, Any]:
    """Return the emulation for the fingerprint, with the processor of this machine, which determines the times."""
    return {"method": "declared slowdown", "slowdown": config.slowdown, "host_cpu": cpu_model(THIS_MACHINE)}


def apply_slowdown(measurement: Measurement, factor: float) -> Measurement:
    """Mark a measurement as emulated and multiply its times by `factor`. Only this function applies `slowdown`.

    A ratio to reference models stays, and their times are multiplied. Energy is power (read from the tree) times time,
    so it is multiplied too. `seconds` and `queue_s` stay real.
    """
    power = measurement.power
    if power is not None:
        net = power.energy_net_mj
        power = power._replace(
            energy_mj=power.energy_mj * factor, energy_net_mj=None if net is None else net * factor, estimated=True
        )
    return measurement._replace(
        latency_ms=_slower(measurement.latency_ms, factor),
        cpu_ms=None if measurement.cpu_ms is None else _slower(measurement.cpu_ms, factor),
        sustained=None if measurement.sustained is None else _slower(measurement.sustained, factor),
        concurrent=None if measurement.concurrent is None else _slower(measurement.concurrent, factor),
        load_ms=_times(measurement.load_ms, factor),
        first_inference_ms=_times(measurement.first_inference_ms, factor),
        paired=None if measurement.paired is None else _slower_references(measurement.paired, factor),
        throughput_ips=None if measurement.throughput_ips is None else measurement.throughput_ips / factor,
        power=power,
        emulated=True,
    )


def _slower_references(paired: Paired, factor: float) -> Paired:
    """Slow the references down: the ratio to them stays."""
    times = {key: value * factor for key, value in paired.times._asdict().items() if key.endswith("_ms")}
    return paired._replace(times=paired.times._replace(**times))


def _times(value: Optional[float], factor: float) -> Optional[float]:
    return None if value is None else value * factor


def _slower(latency: Latency, factor: float) -> Latency:
    times = {key: value for key, value in latency._asdict().items() if key != "n" and value is not None}
    return latency._replace(**{key: value * factor for key, value in times.items()})


def _command_path(argv: Sequence[str]) -> str:
    return "/commands/" + " ".join(argv).replace("/", "_")
