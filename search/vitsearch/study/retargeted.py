"""The finished models of a study on other devices, or with other threads, runtimes or precisions: where they are to
run, and what was measured and predicted there. Measurements are in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from vitsearch.core.decoding import decoded
from vitsearch.core.fleet import Fleet
from vitsearch.core.metrics import split
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.precisions import default_provider
from vitsearch.core.record import Record
from vitsearch.core.targets import TARGETS
from vitsearch.errors import StudyError, UnknownName
from vitsearch.space import LOCAL_DEVICE, SearchSpace
from vitsearch.space.sections import DeviceSection
from vitsearch.study.study import Study

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
            batch = own.batch if TARGETS[runtime].open_batch else own.batch or 1
            moved = replace(moved, runtime=runtime, provider=default_provider(runtime), batch=batch, options=())
        moved = replace(moved.at(self.quantization or own.precision), threads=self.threads or own.threads)
        return moved if self.provider is None else replace(moved, provider=self.provider)

    def space(self, own: SearchSpace, newer: Mapping[str, DeviceSection] = MappingProxyType({})) -> SearchSpace:
        """Make the space file that a study on this target would have: this device, its threads, and the time that
        counts there.

        Args:
            own: The space of the study.
            newer: Devices of a newer space file, by name.

        Returns:
            The space on this target.
        """
        described = {**own.devices, **newer}.get(self.device) or DeviceSection()
        there = own.on_device(self.device, None if self.device == LOCAL_DEVICE else described)
        moved = there if self.threads is None else _with_threads(there, self.threads)
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
        is_shared = not own.devices and own.threads == (1,)
        stays = self.device == LOCAL_DEVICE and self.threads in (None, 1)
        return asks_cpu_time and LATENCY not in own.objectives and is_shared and not stays

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _with_threads(space: SearchSpace, threads: int) -> SearchSpace:
    measure = space.measure.model_copy(update={"threads": threads})
    return space.model_copy(update={"measure": measure, "space": space.space.model_copy(update={"threads": ()})})


def _with_latency(space: SearchSpace) -> SearchSpace:
    def moved(named: Mapping[str, Any]) -> dict[str, Any]:
        """A limit on the latency that the file has already stays."""
        return {
            LATENCY if name == CPU_TIME else name: named.get(LATENCY, value) if name == CPU_TIME else value
            for name, value in named.items()
        }

    return space.model_copy(update={"objectives": moved(space.objectives), "limits": moved(space.limits)})


PREFIX = "retargeted:"
"""Of the attribute of a study that has the results of one target."""


@dataclass(frozen=True)
class Prediction:
    """A model that was not measured there: its costs with their 95 % intervals, and the chance that it is on the
    front."""

    trial: int
    plan: Plan
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    chance: float

    def to_json(self) -> dict[str, Any]:
        intervals = {name: list(interval) for name, interval in self.intervals.items()}
        return asdict(self) | {"plan": self.plan.to_json(), "values": dict(self.values), "intervals": intervals}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Prediction:
        intervals = {name: (low, high) for name, (low, high) in value["intervals"].items()}
        return cls(**{**value, "plan": Plan.from_json(value["plan"]), "intervals": intervals})


@dataclass(frozen=True)
class Fit:
    """How well a metric is predicted."""

    metric: str
    """The metric."""
    graphs: int
    """Graphs that were measured, each predicted from the others."""
    median_error: float
    """Median of the errors, relative to the measured values."""
    spearman: float | None
    """Rank correlation; null where all values are equal."""
    covered: float
    """Share of the measured values within their 95 % intervals."""


@dataclass(frozen=True)
class Retargeted:
    """The models of a study on a target. `models` are those that were measured there, by their trials, and
    `left_out` those that cannot run there, with the reason. `kind` is that of the device, `protocol` the name of
    its confirmation protocol."""

    target: Target
    kind: str
    protocol: str
    baseline: Record | None = None
    models: Mapping[int, Record] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    fits: tuple[Fit, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)

    def save(self, study: Study) -> None:
        study.remember(PREFIX + self.target.name, self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target.to_json(),
            "kind": self.kind,
            "protocol": self.protocol,
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "models": {str(trial): record.to_json() for trial, record in self.models.items()},
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "fits": [asdict(fit) for fit in self.fits],
            "left_out": {str(trial): reason for trial, reason in self.left_out.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Retargeted:
        baseline = value["baseline"]
        return cls(
            Target(**value["target"]),
            value["kind"],
            value["protocol"],
            None if baseline is None else Record.from_json(baseline),
            {int(trial): Record.from_json(record) for trial, record in value["models"].items()},
            tuple(map(Prediction.from_json, value["predictions"])),
            tuple(Fit(**fit) for fit in value["fits"]),
            {int(trial): reason for trial, reason in value["left_out"].items()},
        )


def names(study: Study) -> list[str]:
    """The targets for which a study has results."""
    return sorted(key.removeprefix(PREFIX) for key in study.attributes if key.startswith(PREFIX))


def find(study: Study, name: str) -> Retargeted:
    """The results for a target. Raises `StudyError` or
    `UnknownName` where there are none."""
    stored = study.attributes.get(PREFIX + name)
    if stored is not None:
        return decoded(Retargeted.from_json, stored, f"study {study.name!r}: what was measured on {name}")
    space = study.space()
    if name in space.fleet_names:
        return _on_member(study, name)
    if allowed := [*space.fleet_names, *names(study)]:
        raise UnknownName(f"device of study {study.name!r}", name, [space.device_name, *allowed])
    raise StudyError(
        f"study {study.name!r} has no results on {name!r}; to measure its models there: vitsearch retarget "
        f"{study.name} --device {name}"
    )


def _on_member(study: Study, name: str) -> Retargeted:
    """What the search itself has measured on one device of its fleet."""
    fleets = study.fleets
    models = {
        number: on_member(record, fleets, name)
        for number, record in study.records().items()
        if record.is_confirmed and record.keys is not None and record.keys.device_id in fleets
    }
    baseline = study.baseline()
    protocols = [fleet.members[name].protocol for fleet in fleets.values()]
    device, protocol = study.devices.get(name), protocols[-1] if protocols else ""
    kind = "" if device is None else device.latest.kind
    return Retargeted(
        Target(name), kind, protocol, None if baseline is None else on_member(baseline, fleets, name), models
    )


def on_member(record: Record, fleets: Mapping[str, Fleet], name: str) -> Record:
    """The record of a trial of a fleet with the figures of one of its devices."""
    assert record.keys is not None  # it was measured
    keys = replace(record.keys, device_id=fleets[record.keys.device_id].members[name].device_id)
    plan = replace(
        record.plan, deployments=tuple(replace(deployment, device=name) for deployment in record.plan.deployments)
    )
    return replace(record, plan=plan, keys=keys, metrics=record.metrics.on_device(name))
