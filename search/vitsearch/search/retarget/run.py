"""One `vitsearch retarget`: a worker and the device are opened for the models of a study."""

from __future__ import annotations

import os
from dataclasses import replace

from vitsearch.core import legality
from vitsearch.core.plan import Plan
from vitsearch.core.targets import TARGETS
from vitsearch.devices.cores import Cores
from vitsearch.devices.deployable import deployable_on
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import ResourceError, StudyError, UnknownName
from vitsearch.export import EXPORTERS
from vitsearch.pipeline.progress import Progress
from vitsearch.search import finished_session
from vitsearch.search.event_loop import run_to_end
from vitsearch.search.finished_session import Workplace
from vitsearch.search.plan_space import catalogue_of
from vitsearch.search.retarget.retargeting import RetargetLoop
from vitsearch.search.retarget.untrained_runner import UntrainedRunner
from vitsearch.space import LOCAL_DEVICE, SearchSpace, load
from vitsearch.study import lookup
from vitsearch.study.retargeted import Retargeted, Target


def retarget(where: str, target: Target, every: bool, progress: Progress) -> Retargeted:
    """Measure the models of a study on a target until no other is likely to be on its front, or `every` model. What
    the ledger has is not measured again."""
    with lookup.opened_to_change(where) as (study, ledger):
        own = study.space()
        refuse(target, own)
        newer = load(where).space.devices if where.endswith((".yaml", ".yml")) else {}
        remember_destinations(newer, os.environ)
        space = target.space(own, newer).model_copy(update={"storage": lookup.find(where).storage})
        if target.counts_latency(own):
            progress.note("latency_ms_p50 takes the place of cpu_ms_p50, which stands for it on a shared machine only")
        with finished_session.opened(study, ledger, space, progress) as place:
            return run_to_end(_run(replace(place, runner=UntrainedRunner(place.runner)), target, every))


def refuse(target: Target, own: SearchSpace) -> None:
    """Raise what can be said of a target without its device."""
    if target.name == own.device_name:
        raise StudyError(
            f"study {own.study!r} was searched on {target.device}: name another --device, or what changes there "
            "(--threads, --backend, --provider, --quantization)"
        )
    if target.backend is not None:
        if target.backend not in TARGETS:
            raise UnknownName("runtime", target.backend, TARGETS)
        if (missing := EXPORTERS.get(target.backend)().missing()) is not None:
            raise ResourceError(missing)
    if target.device == LOCAL_DEVICE and target.threads is not None:
        cores = len(Cores.shared(target.threads).device)
        if target.threads > cores:
            raise ResourceError(f"--threads {target.threads}: this machine has {cores} cores for them")


async def _run(place: Workplace, target: Target, every: bool) -> Retargeted:
    can_run, supports = deployable_on(place.device.devices), catalogue_of(place.space).supports

    def refused(plan: Plan) -> str | None:
        reasons = [reason.text for reason in legality.reasons(plan, supports)]
        return reasons[0] if reasons else can_run(plan.deployment)

    async with place.pipeline() as pipeline:
        return await RetargetLoop(place.study, place.ledger, pipeline, target, refused).run(every)
