"""What of a space runs on a device, judged by what its agent reports. The device itself is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vitsearch.core import precisions
from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import refuse_unmetered
from vitsearch.devices.deployable import deployable, on_device, opset_for, refuse_unable
from vitsearch.devices.descriptions import DeviceDescription
from vitsearch.errors import ResourceError
from vitsearch.export.device_jobs import device_job
from vitsearch.models.graph import OPSET
from vitsearch.search.check.space import Checked, Valid
from vitsearch.search.plans import asked_deployments, deployments_of, plan_space
from vitsearch.space import Problem, SearchSpace


@dataclass(frozen=True)
class JudgedDeployment:
    """A runtime, provider and precision of the file; ``runs_in`` names the device's runtime and version. ``opset`` is
    that of its ONNX file, None for another file. ``reason`` says why it is not searched, None when it is."""

    deployment: Deployment
    reason: str | None
    runs_in: str | None
    opset: int | None

    def to_json(self) -> dict[str, Any]:
        one = self.deployment
        return {
            "runtime": one.runtime,
            "provider": one.provider,
            "precision": one.precision,
            "runs": self.reason is None,
            "reason": self.reason,
            "runs_in": self.runs_in,
            "opset": self.opset,
        }


@dataclass(frozen=True)
class CheckedDevice:
    """``valid`` with the plans that the device can run, and what was judged."""

    valid: Valid
    description: DeviceDescription
    judged: tuple[JudgedDeployment, ...]

    def to_json(self) -> dict[str, Any]:
        device = {
            "name": self.description.name,
            "source": self.description.source,
            "deployments": [one.to_json() for one in self.judged],
        }
        return {**self.valid.to_json(), "device": device}

    def describe(self) -> str:
        """The lines of the space, then those of the device."""
        lines = [self.valid.describe(), f"on {self.description.name}:", *self._running(), *self._not_searched()]
        return "\n".join([*lines, f"{self.description.name}: {self.description.source}"])

    def _running(self) -> Iterator[str]:
        by_place: dict[str, list[str]] = {}
        for one in self.judged:
            if one.reason is None:
                where = f"{one.deployment.runtime} {one.deployment.provider}"
                opset = f", ONNX opset {one.opset}" if one.opset not in (None, OPSET) else ""
                by_place.setdefault(f"  {where} ({one.runs_in}{opset}): ", []).append(one.deployment.precision)
        yield from (place + ", ".join(found) for place, found in by_place.items())

    def _not_searched(self) -> Iterator[str]:
        reasons = dict.fromkeys(one.reason for one in self.judged if one.reason is not None)
        yield from (f"not searched: {reason}" for reason in reasons)


def check_device(checked: Checked, description: DeviceDescription) -> CheckedDevice:
    """Judge a checked space for a device, as a run on it would.

    One :class:`~vitsearch.errors.SpaceError` with every problem: those of the file, runtimes of the file that can run
    nothing on the device, and metrics that need a power meter where the device has none.
    """
    name, info, draft = description.name, description.info, checked.judged.draft
    valid = checked.require([] if draft.space is None else list(_problems(draft.space, description)))
    plans = plan_space(valid.space, deployable(name, info)).count()
    judged = tuple(_judge(description, deployment) for deployment in asked_deployments(valid.space, name))
    return CheckedDevice(replace(valid, plans=plans, notes=[]), description, judged)


def _problems(space: SearchSpace, description: DeviceDescription) -> Iterator[Problem]:
    name, info = description.name, description.info
    asked = deployments_of(space, name)
    for index, runtime in enumerate(space.space.backend):
        try:
            refuse_unable(name, info, [one for one in asked if one.runtime == runtime])
        except ResourceError as error:
            yield Problem(("space", "backend", index), str(error))
    for section in ("objectives", "limits"):
        for metric in getattr(space, section):
            try:
                refuse_unmetered(name, info, [metric])
            except ResourceError as error:
                yield Problem((section, metric), str(error))


def _judge(description: DeviceDescription, deployment: Deployment) -> JudgedDeployment:
    info = description.info
    found = on_device(info, deployment)
    reason = precisions.supports(deployment.runtime, deployment.precision)
    reason = reason or deployable(description.name, info)(deployment)
    if found is None or reason is not None:
        return JudgedDeployment(deployment, reason, None, None)
    is_onnx = device_job(deployment).runtime == "onnxruntime"
    runs_in = f"{found.name} {found.version}"
    return JudgedDeployment(deployment, None, runs_in, opset_for(info, deployment) if is_onnx else None)
