"""The workers that a driver has started on its own machine, which can pause and make room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitsearch.devices.cores import CAN_PIN, Cores
from vitsearch.workers.process_guard import ProcessGuard
from vitsearch.workers.ray_runner import RayRunner


@dataclass(frozen=True)
class LocalWorkers:
    """Satisfies `vitsearch.devices.pausing_device.PausableWorkers`. The driver itself keeps to
    `cores.trainers`; so do workers that have just started, and all of them while another driver measures on the cores
    of the device too (`is_device_shared`)."""

    runner: RayRunner
    guard: ProcessGuard
    cores: Cores
    is_device_shared: Callable[[], bool]

    @property
    def busy(self) -> float:
        return self.runner.busy

    @property
    def can_make_room(self) -> bool:
        return self.cores.are_apart

    def pause(self) -> None:
        self.runner.hold()
        self.guard.pause()

    def make_room(self) -> None:
        self._resume_on(self.cores.trainers)

    def resume(self) -> None:
        self._resume_on(self.cores.trainers if self.is_device_shared() else self.cores.all)

    def _resume_on(self, cores: tuple[int, ...]) -> None:
        self.guard.resume(cores if CAN_PIN else ())
        self.runner.release()
