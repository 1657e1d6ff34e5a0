"""What of a space runs on its devices, judged by what their agents report. The devices themselves are not asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vitsearch.core import precisions
from vitsearch.core.metrics import metrics_on
from vitsearch.core.networks import exporter_for
from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import refuse_unmetered
from vitsearch.devices.deployable import (
    all_without_cores,
    cores_by_name,
    cores_needed,
    deployable,
    deployable_on,
    on_device,
    opset_for,
    refuse_old_opsets,
    refuse_unable_on,
    without_cores,
)
from vitsearch.devices.descriptions import DeviceDescription, arithmetic
from vitsearch.errors import ResourceError
from vitsearch.models.onnx_format import OPSET
from vitsearch.search.check.space import Checked, Valid
from vitsearch.search.plan_space import asked_deployments, deployments_of, plan_space
from vitsearch.space import Problem, SearchSpace


@dataclass(frozen=True)
class JudgedDeployment:
    """A runtime, provider and precision of the file; `runs_in` names the device's runtime and version. `opset` is
    that of its ONNX file, None for another file. `reason` says why it is not searched, None when it is."""

    deployment: Deployment
    reason: str | None
    runs_in: str | None
    opset: int | None


@dataclass(frozen=True)
class JudgedDevice:
    """A device, and what of the file was judged for it."""

    description: DeviceDescription
    judged: tuple[JudgedDeployment, ...]
    idle: tuple[str, ...] = ()
    """Why numbers of threads are left out."""

    def describe(self) -> Iterator[str]:
        yield f"on {self.description.name}:"
        yield f"  {self.description.in_words()}"
        types = arithmetic(self.description.info)
        yield f"  its processor computes in: {'unknown' if types is None else ', '.join(types) or 'no vector types'}"
        yield from self._running()
        reasons = dict.fromkeys(judgement.reason for judgement in self.judged if judgement.reason is not None)
        yield from (f"not searched: {reason}" for reason in (*reasons, *self.idle))
        for part, source in self.description.sources.items():
            yield f"{self.description.name}, {part}: {source}"

    def _running(self) -> Iterator[str]:
        by_place: dict[str, list[str]] = {}
        for judgement in self.judged:
            if judgement.reason is None:
                where = f"{judgement.deployment.runtime} {judgement.deployment.provider}"
                opset = f", ONNX opset {judgement.opset}" if judgement.opset not in (None, OPSET) else ""
                by_place.setdefault(f"  {where} ({judgement.runs_in}{opset}): ", []).append(
                    judgement.deployment.precision
                )
        yield from (place + ", ".join(names) for place, names in by_place.items())


@dataclass(frozen=True)
class CheckedDevices:
    """`valid` with the plans that all of the `devices` can run."""

    valid: Valid
    devices: tuple[JudgedDevice, ...]

    def describe(self) -> str:
        """The lines of the space, then those of each device."""
        return "\n".join([self.valid.describe(), *(line for device in self.devices for line in device.describe())])


def check_devices(checked: Checked, described: Sequence[DeviceDescription]) -> CheckedDevices:
    """Judge a checked space for a device, or for the devices of a fleet, as a run on them would.

    One `SpaceError` with every problem: those of the file, runtimes of the file that can run
    nothing on one of the devices or nothing that all of them run, and metrics that need a power meter where a device
    has none.
    """
    draft = checked.judged.draft
    valid = checked.require([] if draft.rest is None else list(_problems(draft.rest, described)))
    plans = plan_space(valid.space, deployable_on(described)).count()
    devices = tuple(
        JudgedDevice(
            description,
            tuple(_judge(description, deployment) for deployment in asked_deployments(valid.space, description.name)),
            tuple(all_without_cores(cores_by_name([description]), valid.space)),
        )
        for description in described
    )
    return CheckedDevices(replace(valid, plans=plans, notes=[]), devices)


def _problems(space: SearchSpace, described: Sequence[DeviceDescription]) -> Iterator[Problem]:
    deployments = deployments_of(space, space.device_name)
    for index, runtime in enumerate(space.space.backend):
        try:
            refuse_unable_on(described, [deployment for deployment in deployments if deployment.runtime == runtime])
        except ResourceError as error:
            yield Problem(("space", "backend", index), str(error))
    for index, choice in enumerate(space.space.backbone):
        try:
            refuse_old_opsets(described, choice.name, exporter_for(choice.name, space.networks), deployments)
        except ResourceError as error:
            yield Problem(("space", "backbone", index), str(error))
    for knob, runs in cores_needed(space).items():
        try:
            without_cores(cores_by_name(described), runs)
        except ResourceError as error:
            yield Problem(("space", knob), str(error))
    for section in ("objectives", "limits"):
        for metric in getattr(space, section):
            for description in described:
                try:
                    refuse_unmetered(description.name, description.info, metrics_on(description.name, [metric]))
                except ResourceError as error:
                    yield Problem((section, metric), str(error))


def _judge(description: DeviceDescription, deployment: Deployment) -> JudgedDeployment:
    info = description.info
    runtime = on_device(info, deployment)
    reason = precisions.supports_on(deployment.runtime, deployment.provider, deployment.precision)
    reason = reason or deployable(description.name, info)(deployment)
    if runtime is None or reason is not None:
        return JudgedDeployment(deployment, reason, None, None)
    runs_in = f"{runtime.name} {runtime.version}"
    opset = None if runtime.max_opset is None else opset_for(info, deployment)
    return JudgedDeployment(deployment, None, runs_in, opset)
