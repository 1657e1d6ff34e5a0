"""Whether a device can run a deployment, by what its agent reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from vitsearch.core.onnx_exporters import TORCHSCRIPT, OnnxExporter, needs_dynamo
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import providers_of, takes_threads
from vitsearch.core.targets import TARGETS, AgentRuntime
from vitsearch.devices.protocols import cores_of
from vitsearch.errors import ResourceError
from vitsearch.export.device_jobs import device_job
from vitsearch.models.onnx_format import OLDEST_OPSET
from vitsearch.registry import loaded
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.wire.protocol import DeviceInfo, RuntimeInfo

if TYPE_CHECKING:
    from vitsearch.space import SearchSpace

Deployable = Callable[[Deployment], str | None]
"""Why a device cannot run a deployment, in one sentence; None when it can."""


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


def opset_for(info: DeviceInfo, deployment: Deployment, exporter: OnnxExporter = TORCHSCRIPT) -> int:
    """The ONNX opset of the files for a device: ours, or the newest one that its runtime reads if that is older."""
    runtime = on_device(info, deployment)
    ours = exporter.opset
    return ours if runtime is None or runtime.max_opset is None else min(ours, runtime.max_opset)


def opset_on(devices: Sequence[Described], deployment: Deployment, exporter: OnnxExporter = TORCHSCRIPT) -> int:
    """The opset of the one file that all `devices` get."""
    return min(opset_for(device.info, deployment, exporter) for device in devices)


def version_on(devices: Sequence[Described], deployment: Deployment) -> str | None:
    """The version of the runtime for which the one file that all `devices` get is made: the oldest."""
    runtimes = [on_device(device.info, deployment) for device in devices]
    versions = [runtime.version for runtime in runtimes if runtime is not None and runtime.version is not None]
    return min(versions, key=_numbers, default=None)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def refuse_unable_on(devices: Sequence[Described], deployments: Sequence[Deployment]) -> None:
    """Raise `ResourceError` when one of the devices cannot run the models of a study, or when they can run no
    common deployment of a runtime."""
    for device in devices:
        refuse_unable(device.name, device.info, deployments)
    why_not = deployable_on(devices)
    for runtime in dict.fromkeys(deployment.runtime for deployment in deployments):
        reasons = [why_not(deployment) for deployment in deployments if deployment.runtime == runtime]
        if None not in reasons:
            names = ", ".join(device.name for device in devices)
            listed = "; ".join(dict.fromkeys(filter(None, reasons)))
            raise ResourceError(f"no {runtime} model of the file runs on all of {names}: {listed}")


def refuse_unable(device: str, info: DeviceInfo, deployments: Sequence[Deployment]) -> None:
    """Raise `ResourceError`, before anything is trained, when a device cannot run the models of a study: when a
    runtime is missing, or runs nothing of the `deployments`."""
    for runtime in dict.fromkeys(deployment.runtime for deployment in deployments):
        of_runtime = [deployment for deployment in deployments if deployment.runtime == runtime]
        reasons = [_why_not(device, info, deployment) for deployment in of_runtime]
        if None not in reasons:
            raise ResourceError("; ".join(dict.fromkeys(filter(None, reasons))) + _install(of_runtime))


def refuse_old_opsets(
    devices: Sequence[Described], backbone: str, exporter: OnnxExporter, deployments: Iterable[Deployment]
) -> None:
    """Raise `ResourceError` when a device reads no ONNX opset in which `exporter` can write the files of `backbone`."""
    if exporter == TORCHSCRIPT:
        return  # `refuse_unable` says what is too old for all models
    reason = needs_dynamo(backbone) or "torch's other exporter cannot write its operators"
    for device in devices:
        for deployment in deployments:
            runtime = on_device(device.info, deployment)
            if runtime is not None and opset_for(device.info, deployment, exporter) < exporter.oldest_opset:
                needed = f"{backbone} is exported with opset {exporter.oldest_opset} or newer, because {reason}"
                there = f"the device's {runtime.name} ({runtime.version}) reads at most {runtime.max_opset}"
                raise ResourceError(f"device {device.name}: {needed}; {there}")


def _install(deployments: Sequence[Deployment]) -> str:
    """The command for a runtime of which nothing runs; for its NPU, where all deployments want that."""
    target = TARGETS.get(deployments[0].runtime)
    if target is None:
        return ""
    npus = [npu for deployment in deployments if (npu := target.npus.get(deployment.provider)) is not None]
    on_npu = len(npus) == len(deployments)
    package = npus[0].package if on_npu else RUNTIMES[target.on_device[0].name].package
    return f" (to install it there: pip install {package})" if package else ""


def _why_not(device: str, info: DeviceInfo, deployment: Deployment) -> str | None:
    there = {each.name: each for each in info.runtimes}
    usable = [name for name, each in there.items() if each.available]
    job = device_job(deployment, usable)
    runtime = there.get(job.runtime)
    if runtime is None:
        names = ", ".join(sorted(usable)) or "none"
        return f"device {device} has no runtime {_wanted(deployment.runtime)}; available: {names}"
    if not runtime.available:
        return f"device {device}: the runtime {runtime.name} is not usable: {runtime.reason}"
    return (
        _too_old(device, runtime)
        or lacks_cores(device, cores_of(info), deployment)
        or _missing_provider(device, runtime, deployment)
        or _imitated(device, info, deployment)
        or _missing_precision(device, runtime, deployment)
    )


def _wanted(runtime: str) -> str:
    target = TARGETS.get(runtime)
    return runtime if target is None else " or ".join(each.name for each in target.on_device)


def _known(runtime: RuntimeInfo, deployment: Deployment) -> AgentRuntime:
    """What is known of a device's runtime; of one of another package only its name is."""
    target = TARGETS.get(deployment.runtime)
    known = () if target is None else target.on_device
    return next((each for each in known if each.name == runtime.name), AgentRuntime(runtime.name))


def _too_old(device: str, runtime: RuntimeInfo) -> str | None:
    if "onnx" not in runtime.artifacts or runtime.max_opset is None or runtime.max_opset >= OLDEST_OPSET:
        return None
    return (
        f"device {device}: models are exported with opset {OLDEST_OPSET} or newer, "
        f"but its {runtime.name} ({runtime.version}) reads at most {runtime.max_opset}"
    )


def too_few_cores(device: str, cores: int | None, threads: int, streams: int = 1) -> str | None:
    """Why a device cannot run several threads at the same time; None when it has a core for each, and for one thread.

    Args:
        device: Its name.
        cores: Those that it has for measurements; None where nobody counted them.
        threads: The number of threads of a run.
        streams: The number of runs in flight.

    Returns:
        One sentence, or None.
    """
    if cores is None or threads * streams <= max(cores, 1):
        return None
    has = "1 core" if cores == 1 else f"{cores} cores"
    runs = f"no run of {threads} threads"
    if streams > 1:
        runs = f"no {streams} streams" + (f" of {threads} threads" if threads > 1 else "")
    return f"device {device} has {has} for measurements, so {runs}"


def lacks_cores(device: str, cores: int | None, deployment: Deployment) -> str | None:
    """As `too_few_cores`, for a deployment. Runs in flight need no cores of their own where an accelerator computes."""
    takes_cores = takes_threads(deployment.runtime, deployment.provider)
    return too_few_cores(device, cores, deployment.threads, (deployment.streams or 1) if takes_cores else 1)


def cores_needed(space: SearchSpace) -> dict[str, list[tuple[int, int]]]:
    """The runs for which a device needs cores, by the knob that lists them.

    Args:
        space: The content of the file.

    Returns:
        (threads, streams) for each value of `threads` and of `streams`; none of streams where an accelerator computes.
    """
    knobs = space.space
    pairs = [(runtime, name) for runtime in knobs.backend for name in providers_of(runtime, knobs.provider)]
    on_cores = knobs.streams if all(takes_threads(*pair) for pair in pairs) else ()
    return {
        "threads": [(threads, 1) for threads in knobs.threads],
        "streams": [(min(space.threads), streams) for streams in on_cores],
    }


def cores_by_name(devices: Sequence[Described]) -> dict[str, int | None]:
    """The cores that each device has for measurements; None where its agent does not say."""
    return {device.name: cores_of(device.info) for device in devices}


def without_cores(cores: Mapping[str, int | None], runs: Sequence[tuple[int, int]]) -> list[str]:
    """Why some of the runs of a knob are left out, because a device has fewer cores.

    Args:
        cores: Those of each device of the file (`cores_by_name`).
        runs: The threads and streams of each value of the knob.

    Returns:
        A sentence for each value that is left out.

    Raises:
        ResourceError: No value is left.
    """
    whys = [next(filter(None, (too_few_cores(*device, *run) for device in cores.items())), None) for run in runs]
    reasons = [why for why in whys if why is not None]
    if reasons and len(reasons) == len(runs):
        raise ResourceError("; ".join(reasons))
    return reasons


def all_without_cores(cores: Mapping[str, int | None], space: SearchSpace) -> list[str]:
    """As `without_cores`, for all knobs of a file."""
    return [why for runs in cores_needed(space).values() for why in without_cores(cores, runs)]


def _missing_provider(device: str, runtime: RuntimeInfo, deployment: Deployment) -> str | None:
    lists = _known(runtime, deployment).lists_providers
    if lists == "cpu alone" and deployment.provider != "cpu":
        only = f"computes on the CPU only, not on {deployment.provider}"
        return f"device {device}: its {runtime.name} ({runtime.version}) {only}"
    if lists in ("no", "cpu alone") or (lists == "where known" and not runtime.providers):
        return None
    name = TARGETS[deployment.runtime].providers[deployment.provider]
    if name in runtime.providers:
        return None
    listed = ", ".join(runtime.providers) or "none"
    return f"device {device}: its {runtime.name} ({runtime.version}) has no {name}; it has {listed}"


def _imitated(device: str, info: DeviceInfo, deployment: Deployment) -> str | None:
    machine = info.fingerprint.get("machine")
    if info.kind == "emulated" or not isinstance(machine, str):
        return None
    return imitated_npu(device, machine, deployment)


def imitated_npu(device: str, machine: str, deployment: Deployment) -> str | None:
    """Why a physical device does not run a deployment whose NPU would be imitated on its processor: times of it would
    stand beside real ones in one study. None where nothing is imitated.

    Args:
        device: Its name.
        machine: The architecture of its processor, such as `x86_64`.
        deployment: What is to run.

    Returns:
        One sentence, or None.
    """
    target = TARGETS.get(deployment.runtime)
    npu = None if target is None else target.npus.get(deployment.provider)
    if npu is None or not loaded(npu.is_imitated)(machine):
        return None
    return (
        f"device {device}: on its processor ({machine}) {npu.package} imitates the NPU, so the times would be those "
        "of no device; a device that is declared emulated may run it"
    )


def _missing_precision(device: str, runtime: RuntimeInfo, deployment: Deployment) -> str | None:
    kind = "int8" if deployment.precision.startswith("int8") else deployment.precision
    if not _known(runtime, deployment).lists_precisions or kind in runtime.precisions:
        return None
    listed = ", ".join(runtime.precisions) or "none"
    return (
        f"device {device}: its {runtime.name} ({runtime.version}) does not compute in {kind}; it computes in {listed}"
    )
