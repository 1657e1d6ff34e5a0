"""The plans of a space, as its backbones, its runtimes and its device allow."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import AUTO, providers_of, quantized_ops_of, supports_on
from vitsearch.devices.deployable import Deployable
from vitsearch.export import EXPORTERS
from vitsearch.space import SearchSpace
from vitsearch.storage import remote_files
from vitsearch.study.sampling import FormLookup, PlanSpace


def plan_space(
    space: SearchSpace, deployable: Deployable | None = None, form_of: FormLookup | None = None
) -> PlanSpace:
    """The plans on the first device of `space`. Without `deployable` it is assumed to run everything."""
    catalogue = catalogue_of(space)
    # What a backbone supports is read off its modules, and a plan asks for dozens of values: they are remembered.
    supports = functools.cache(catalogue.supports)
    plans = PlanSpace(space, space.device_name, supports, catalogue.native_resolution, catalogue.own_window)
    if deployable is not None:
        plans = replace(plans, deployable=functools.cache(deployable))
    return plans if form_of is None else replace(plans, form_of=form_of)


def catalogue_of(space: SearchSpace) -> Catalogue:
    """The backbones of a space, with what is known of the networks that the user brings."""
    return Catalogue.of_facts(space.network_facts).for_task(space.purpose)


def lacking(space: SearchSpace) -> list[str]:
    """What this machine lacks to write the files of the runtimes of the file, and to reach its store: one line for
    each."""
    reasons = [EXPORTERS.get(runtime)().missing() for runtime in space.space.backend]
    place = space.files or ""
    reasons += [remote_files.missing(place)] if "://" in place else []
    return [reason for reason in reasons if reason is not None]


def asked_deployments(space: SearchSpace, device: str) -> list[Deployment]:
    """Every runtime, provider and precision of the file, also those that cannot be made."""
    knobs = space.space
    return [
        Deployment(device, runtime, provider, precision)
        for runtime in knobs.backend
        for provider in providers_of(runtime, knobs.provider)
        for precision in knobs.quantization
    ]


def deployments_of(space: SearchSpace, device: str) -> list[Deployment]:
    """Those of `asked_deployments` that can be made, whatever the device runs."""
    return [
        deployment
        for deployment in asked_deployments(space, device)
        if supports_on(deployment.runtime, deployment.provider, deployment.precision) is None
    ]


def with_quantized_ops(space: SearchSpace, deployments: Iterable[Deployment]) -> Iterator[Deployment]:
    """The deployments with the layers that the file lets int8 cover in them; without, where the leaderboard decides."""
    named = space.space.quantized_ops
    for deployment in deployments:
        possible = quantized_ops_of(deployment.runtime, deployment.provider, deployment.precision)
        if len(possible) > 1 and AUTO in named:
            yield deployment
        else:
            allowed = [ops for ops in possible if ops in named] or possible[:1]
            yield from (replace(deployment, quantized_ops=ops) for ops in allowed or (None,))
