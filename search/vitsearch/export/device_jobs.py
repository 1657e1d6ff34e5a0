"""What a deployment asks of an agent: the name of the agent's runtime, and its options."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from vitsearch.core.plan import Deployment
from vitsearch.core.targets import TARGETS


@dataclass(frozen=True)
class DeviceJob:
    """`runtime` and `options` as the agent knows them."""

    runtime: str
    options: dict[str, Any]


def device_job(deployment: Deployment, available: Collection[str] = ()) -> DeviceJob:
    """The job of a deployment on an agent that has the runtimes `available` (empty: any)."""
    target = TARGETS.get(deployment.runtime)
    if target is None:  # a runtime of another package: all of its options are in the plan
        return DeviceJob(deployment.runtime, dict(deployment.options))
    runtime = next((each for each in target.on_device if each.name in available), target.on_device[0])
    options: dict[str, Any] = {}
    if runtime.provider_option is not None:
        options[runtime.provider_option] = target.providers[deployment.provider]
    if runtime.precision_option is not None:
        words = runtime.precision_words
        options[runtime.precision_option] = words.get(deployment.precision, deployment.precision)
    return DeviceJob(runtime.name, options | dict(deployment.options))
