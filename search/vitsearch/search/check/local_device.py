"""What this machine lacks as the device of a space: a space without `devices:` is measured where it is searched."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from vitsearch.devices.cores import Cores
from vitsearch.devices.deployable import Deployable, all_without_cores, imitated_npu, lacks_cores
from vitsearch.errors import ResourceError
from vitsearch.search.check.machine import runtime_here
from vitsearch.search.plan_space import deployments_of
from vitsearch.space import SearchSpace


def unable(space: SearchSpace) -> list[str]:
    """Why a run would end before its first measurement: one line for each reason, none for a space with devices."""
    return [] if space.devices else list(_reasons(space))


def without_cores(space: SearchSpace) -> list[str]:
    """The threads and streams that are not searched, because this machine has fewer cores."""
    if space.devices:
        return []
    try:
        return [f"not searched: {reason}" for reason in all_without_cores(_cores(space), space)]
    except ResourceError:  # none is left, which `unable` says
        return []


def with_cores(space: SearchSpace) -> Deployable | None:
    """What this machine has cores for; None for a space with devices, which were not asked."""
    if space.devices:
        return None
    ((name, cores),) = _cores(space).items()
    return lambda deployment: lacks_cores(name, cores, deployment)


def _reasons(space: SearchSpace) -> Iterator[str]:
    name = space.device_name
    for runtime in space.space.backend:
        part = runtime_here(runtime)
        if not part.works:
            yield f"device {name} cannot run files for {runtime}: {part.detail}"
        deployments = [deployment for deployment in deployments_of(space, name) if deployment.runtime == runtime]
        imitated = [imitated_npu(name, platform.machine(), deployment) for deployment in deployments]
        if imitated and imitated[0] is not None and None not in imitated:
            yield imitated[0]
    try:
        all_without_cores(_cores(space), space)
    except ResourceError as error:
        yield str(error)


def _cores(space: SearchSpace) -> dict[str, int | None]:
    return {space.device_name: len(Cores.shared(space.cores).device)}
