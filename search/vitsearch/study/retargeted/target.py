"""Where the finished models of a study are to run besides the device on which they were searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from vitsearch.core.metrics import split
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import RUNTIMES, default_provider
from vitsearch.space import LOCAL_DEVICE, SearchSpace
from vitsearch.space.sections import DeviceSection

CPU_TIME, LATENCY = "cpu_ms_p50", "latency_ms_p50"


@dataclass(frozen=True)
class Target:
    """Another device, or the same one with other threads, another runtime, provider or precision.

    The names are those of a space file. None: as each model has it in the study.

    Attributes:
        device: The name of the device; `local` for this machine.
        backend: The runtime, such as `openvino`.
        provider: What computes, such as `cpu`.
        quantization: The precision, such as `int8_ptq`.
        threads: The number of threads of the runtime.
    """

    device: str
    backend: str | None = None
    provider: str | None = None
    quantization: str | None = None
    threads: int | None = None

    @property
    def name(self) -> str:
        """`nano`, `local+threads2`, `local+openvino+fp32`: by it the results are found again."""
        threads = None if self.threads is None else f"threads{self.threads}"
        changes = (self.backend, self.provider, self.quantization, threads)
        return "+".join([self.device, *(change for change in changes if change is not None)])

    def deployment(self, own: Deployment) -> Deployment:
        """Move a deployment of the study here. Options belong to a runtime, so another runtime has none.

        Args:
            own: The deployment of a model in the study.

        Returns:
            The deployment of the same model on this target.
        """
        moved, runtime = replace(own, device=self.device), self.backend or own.runtime
        if runtime != own.runtime:
            batch = own.batch if RUNTIMES[runtime].open_batch else own.batch or 1
            moved = replace(moved, runtime=runtime, provider=default_provider(runtime), batch=batch, options=())
        moved = moved.at(self.quantization or own.precision)
        return moved if self.provider is None else replace(moved, provider=self.provider)

    def space(self, own: SearchSpace, known: Mapping[str, DeviceSection] = MappingProxyType({})) -> SearchSpace:
        """Make the space file that a study on this target would have: this device, its threads, and the time that
        counts there.

        Args:
            own: The space of the study.
            known: Devices of a newer space file, by name.

        Returns:
            The space on this target.
        """
        described = {**own.devices, **known}.get(self.device) or DeviceSection()
        threads = self.threads or own.measure.threads
        measure = own.measure.model_copy(update={"threads": threads})
        there = own.on_device(self.device, None if self.device == LOCAL_DEVICE else described)
        moved = there.model_copy(update={"measure": measure})
        return _with_latency(moved) if self.counts_latency(own) else moved

    def counts_latency(self, own: SearchSpace) -> bool:
        """Decide whether latency takes the place of CPU time.

        A study that measures on its own, shared machine with one thread asks for CPU time, which stands for latency
        there. On a device it does not, and with several threads it is the sum of all of them.

        Args:
            own: The space of the study.

        Returns:
            Whether objectives and limits of the CPU time are read as those of the latency.
        """
        asks_cpu_time = any(split(name)[0].name == CPU_TIME for name in own.objectives)
        is_shared = not own.devices and own.measure.threads == 1
        stays = self.device == LOCAL_DEVICE and self.threads in (None, 1)
        return asks_cpu_time and LATENCY not in own.objectives and is_shared and not stays

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _with_latency(space: SearchSpace) -> SearchSpace:
    def moved(named: Mapping[str, Any]) -> dict[str, Any]:
        """A limit on the latency that the file has already stays."""
        return {
            LATENCY if name == CPU_TIME else name: named.get(LATENCY, value) if name == CPU_TIME else value
            for name, value in named.items()
        }

    return space.model_copy(update={"objectives": moved(space.objectives), "limits": moved(space.limits)})
