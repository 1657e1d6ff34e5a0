"""The workers that a driver has started on its own machine, which can pause."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.workers.process_guard import ProcessGuard
from vitsearch.workers.ray_runner import RayRunner


@dataclass(frozen=True)
class LocalWorkers:
    """Satisfies :class:`vitsearch.devices.pausing_device.PausableWorkers`."""

    runner: RayRunner
    guard: ProcessGuard

    @property
    def busy(self) -> float:
        return self.runner.busy

    def pause(self) -> None:
        self.runner.hold()
        self.guard.pause()

    def resume(self) -> None:
        self.guard.resume()
        self.runner.release()
