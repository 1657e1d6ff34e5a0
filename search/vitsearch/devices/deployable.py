"""Whether a device can run a deployment, by what its agent reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import RUNTIMES
from vitsearch.errors import ResourceError
from vitsearch.export.device_jobs import ON_DEVICE, device_job
from vitsearch.models.graph import OLDEST_OPSET, OPSET
from vitsearch_evaluators.wire.protocol import DeviceInfo, RuntimeInfo

Deployable = Callable[[Deployment], str | None]
"""Why a device cannot run a deployment, in one sentence; None when it can."""
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert", "coreml": "coremltools"}
"""What pip installs on a device for a runtime. The agent may be one file there, so no extra of it is named."""
NAMES_PROVIDERS = frozenset({"onnxruntime", "openvino", "coreml", "benchmark_model"})
"""Runtimes of agents that list their providers by the names of :data:`vitsearch.core.precisions.RUNTIMES`."""
NAMES_PRECISIONS = frozenset({"openvino", "trtexec"})
"""Runtimes of agents whose list of precisions is complete. onnxruntime converts fp16 where it has no kernels."""


def deployable(device: str, info: DeviceInfo) -> Deployable:
    """The check for one device."""
    return lambda deployment: _why_not(device, info, deployment)


class Described(Protocol):
    """A device that is connected, or the description of one that is not."""

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> DeviceInfo: ...


def deployable_on(devices: Sequence[Described]) -> Deployable:
    """The check for a device, or for all devices of a fleet: each has to run the deployment."""
    checks = [deployable(device.name, device.info) for device in devices]
    return lambda deployment: next(filter(None, (check(deployment) for check in checks)), None)


def on_device(info: DeviceInfo, deployment: Deployment) -> RuntimeInfo | None:
    """The device's runtime that runs a deployment; None when it has none that is available."""
    usable = {runtime.name: runtime for runtime in info.runtimes if runtime.available}
    return usable.get(device_job(deployment, usable).runtime)


def opset_for(info: DeviceInfo, deployment: Deployment) -> int:
    """The ONNX opset of the files for a device: ours, or the newest one that its runtime reads if that is older."""
    found = on_device(info, deployment)
    return OPSET if found is None or found.max_opset is None else min(OPSET, found.max_opset)


def opset_on(devices: Sequence[Described], deployment: Deployment) -> int:
    """The opset of the one file that all ``devices`` get."""
    return min(opset_for(device.info, deployment) for device in devices)


def version_on(devices: Sequence[Described], deployment: Deployment) -> str | None:
    """The version of the runtime for which the one file that all ``devices`` get is made: the oldest."""
    runtimes = [on_device(device.info, deployment) for device in devices]
    versions = [runtime.version for runtime in runtimes if runtime is not None and runtime.version is not None]
    return min(versions, key=_numbers, default=None)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def refuse_unable_on(devices: Sequence[Described], asked: Sequence[Deployment]) -> None:
    """Raise :class:`ResourceError` when one of the devices cannot run the models of a study, or when they can run no
    common deployment of a runtime."""
    for device in devices:
        refuse_unable(device.name, device.info, asked)
    why_not = deployable_on(devices)
    for runtime in dict.fromkeys(deployment.runtime for deployment in asked):
        reasons = [why_not(deployment) for deployment in asked if deployment.runtime == runtime]
        if None not in reasons:
            names = ", ".join(device.name for device in devices)
            found = "; ".join(dict.fromkeys(filter(None, reasons)))
            raise ResourceError(f"no {runtime} model of the file runs on all of {names}: {found}")


def refuse_unable(device: str, info: DeviceInfo, asked: Iterable[Deployment]) -> None:
    """Raise :class:`ResourceError`, before anything is trained, when a device cannot run the models of a study: when a
    runtime is missing, or runs nothing of what is ``asked``."""
    reasons: dict[str, list[str | None]] = {}
    for deployment in asked:
        reasons.setdefault(deployment.runtime, []).append(_why_not(device, info, deployment))
    for runtime, found in reasons.items():
        if None not in found:
            raise ResourceError("; ".join(dict.fromkeys(filter(None, found))) + _install(runtime))


def _install(runtime: str) -> str:
    return f" (to install it there: pip install {PACKAGES[runtime]})" if runtime in PACKAGES else ""


def _why_not(device: str, info: DeviceInfo, deployment: Deployment) -> str | None:
    there = {runtime.name: runtime for runtime in info.runtimes}
    usable = [name for name, runtime in there.items() if runtime.available]
    job = device_job(deployment, usable)
    found = there.get(job.runtime)
    if found is None:
        names = ", ".join(sorted(usable)) or "none"
        return f"device {device} has no runtime {_wanted(deployment.runtime)}; available: {names}"
    if not found.available:
        return f"device {device}: the runtime {found.name} is not usable: {found.reason}"
    return (
        _too_old(device, found)
        or _missing_provider(device, found, deployment)
        or _missing_precision(device, found, deployment)
    )


def _wanted(runtime: str) -> str:
    return " or ".join(ON_DEVICE.get(runtime, (runtime,)))


def _too_old(device: str, found: RuntimeInfo) -> str | None:
    if "onnx" not in found.artifacts or found.max_opset is None or found.max_opset >= OLDEST_OPSET:
        return None
    return (
        f"device {device}: models are exported with opset {OLDEST_OPSET} or newer, "
        f"but its {found.name} ({found.version}) reads at most {found.max_opset}"
    )


def _missing_provider(device: str, found: RuntimeInfo, deployment: Deployment) -> str | None:
    if found.name == "litert" and deployment.provider != "cpu":
        return f"device {device}: its litert ({found.version}) computes on the CPU only, not on {deployment.provider}"
    if found.name not in NAMES_PROVIDERS or (found.name == "benchmark_model" and not found.providers):
        return None
    name = RUNTIMES[deployment.runtime].providers[deployment.provider]
    if name in found.providers:
        return None
    listed = ", ".join(found.providers) or "none"
    return f"device {device}: its {found.name} ({found.version}) has no {name}; it has {listed}"


def _missing_precision(device: str, found: RuntimeInfo, deployment: Deployment) -> str | None:
    kind = "int8" if deployment.precision.startswith("int8") else deployment.precision
    if found.name not in NAMES_PRECISIONS or kind in found.precisions:
        return None
    listed = ", ".join(found.precisions) or "none"
    return f"device {device}: its {found.name} ({found.version}) does not compute in {kind}; it computes in {listed}"
