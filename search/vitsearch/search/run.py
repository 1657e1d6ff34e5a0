"""Assembles one run: opens study and ledger, starts workers, connects the device, drives the search, closes all."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from vitsearch.blas import one_blas_thread
from vitsearch.core.activity import doing
from vitsearch.core.metrics import metrics_on
from vitsearch.core.networks import exporter_for
from vitsearch.devices.agent_device import refuse_unmetered
from vitsearch.devices.deployable import (
    all_without_cores,
    cores_by_name,
    deployable_on,
    refuse_old_opsets,
    refuse_unable_on,
)
from vitsearch.devices.pausing_device import PausingDevice
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import ResourceError
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Progress
from vitsearch.search.check.connections import hub_probes, probes_of_driver, try_patiently
from vitsearch.search.driver import Driver, SearchEnd
from vitsearch.search.earlier_studies import priors_of
from vitsearch.search.event_loop import run_to_end
from vitsearch.search.observers import FinalFront
from vitsearch.search.observers.observe import Observing, observed
from vitsearch.search.open_device import cores_kept_free, described, open_device
from vitsearch.search.plan_requests import stored_leaders
from vitsearch.search.plan_space import deployments_of, lacking, plan_space
from vitsearch.search.resources import cores_of, resources_in_cluster, resources_of
from vitsearch.search.session import Session
from vitsearch.search.stage_config import data_spec, stage_config_of
from vitsearch.search.starting_weights import refuse_other_channels
from vitsearch.search.study_folders import StudyFolders
from vitsearch.search.unpruned_models import report_unpruned
from vitsearch.search.watch.heartbeat import alive
from vitsearch.search.watch.other_runs import announce_other_runs
from vitsearch.search.watch.stall import StallWatch
from vitsearch.search.watch.time_estimate import Remaining
from vitsearch.search.weighted_classes import refuse_unknown_names
from vitsearch.space import SearchSpace
from vitsearch.stages import DataJob, Workspace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stores import adopt_store
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.dropped_backbones import dropped_backbones
from vitsearch.study.file_forms import FileForms
from vitsearch.study.identity import adopt_data, adopt_judge, adopt_samples
from vitsearch.study.study import Study
from vitsearch.workers.local_workers import LocalWorkers
from vitsearch.workers.process_guard import ProcessGuard
from vitsearch.workers.ray_runner import RayRunner


@dataclass(frozen=True)
class Options:
    """Options of the command line: a running Ray cluster (host:port), whether failed plans are tried again, and what
    the run reports to beside its view."""

    ray_address: str | None = None
    retry_failed: bool = False
    observing: Observing = field(default_factory=Observing)


def run(space: SearchSpace, progress: Progress, options: Options = Options()) -> SearchEnd:
    """Run until the search is complete. Ctrl-C and SIGTERM end it cleanly and raise KeyboardInterrupt."""
    home = StudyFolders.of(space)
    with ExitStack() as closing:
        if missing := lacking(space):
            raise ResourceError("; ".join(missing))
        closing.enter_context(one_blas_thread())  # the other cores are for the trainers and the device
        remember_destinations(space.devices, os.environ)
        _try_what_is_needed(space, progress, options)
        cores = closing.enter_context(cores_kept_free(space))
        resources = resources_of(space, cores) if options.ray_address is None else resources_in_cluster(space)
        closing.enter_context(home.running(progress.note))
        observers = closing.enter_context(observed(progress, space, home.logs, options.observing))
        progress = observers.progress
        guard = closing.enter_context(ProcessGuard())
        ledger = Ledger.open(space.storage)
        closing.callback(ledger.close)
        store = adopt_store(ledger, space.files, os.environ)
        if store.is_remote:
            progress.note(f"files go to {store.address}")
        for other in ledger.inventory.live_runs(space.study):
            if not other.driver.is_of_here:  # those of this machine are said above
                progress.note(f"another run of study {space.study!r} is active ({other.describe()}); this run joins it")
        ledger.costs.start_run(space.study, cores_of(space, cores, options.ray_address), resources.trainers)
        study = Study.join(space)
        closing.callback(study.close)
        if revived := study.recover():  # first: a run that is stopped during its start leaves no trial open either
            progress.note(f"resuming {revived} trial{'s' if revived > 1 else ''} of an interrupted run")
        if priors := priors_of(study, space):
            progress.note(
                f"forecasts of {', '.join(priors)} begin with what {', '.join(space.search.safe_prior)} trained"
            )
        dropped = frozenset(backbone.backbone for backbone in dropped_backbones(study))
        plans = replace(plan_space(space, form_of=FileForms(study)), dropped=dropped)
        if outside := study.waiting_outside(plans):
            named = f"{len(outside)} waiting trial{'s are' if len(outside) > 1 else ' is'}"
            lacks = "; ".join(dict.fromkeys(outside.values()))
            progress.note(f"{named} left to a run whose space file has {lacks}")
        report_unpruned(progress, plans, stored_leaders(study))
        figures = CurrentFigures(ledger, study.fleets)
        Remaining(study, ledger, space, resources.trainers, figures).report_known(progress)
        failures = sum(record.outcome == "failed" for record in study.records().values())
        progress.note(f"connecting device {', '.join(space.device_names)}")
        device = closing.enter_context(
            open_device(study, space, cores, progress.note, failures if options.retry_failed else 0)
        )
        refuse_unable_on(device.devices, deployments_of(space, device.name))
        for reason in all_without_cores(cores_by_name(device.devices), space):
            progress.note(f"not searched: {reason}")
        for choice in space.space.backbone:
            exporter = exporter_for(choice.name, space.networks)
            refuse_old_opsets(device.devices, choice.name, exporter, deployments_of(space, device.name))
        for board in device.devices:
            refuse_unmetered(board.name, board.info, metrics_on(board.name, (*space.objectives, *space.limits)))
        progress.note("; ".join([*map(described, device.devices), "starting workers"]))
        for board in device.devices:
            if board.info.quarantined is not None:
                progress.note(f"device {board.name} is in quarantine: {board.info.quarantined}")
        peaks_mb = ledger.costs.peak_memory_mb(space.study)
        runner = RayRunner(resources, home.logs, options.ray_address, peaks_mb)
        closing.callback(runner.close)
        if runner.resources.gpus:
            progress.note(f"each of {resources.trainers} trainers has {runner.resources.gpus:g} GPU")
        if cores is not None and options.ray_address is None:  # the workers of a cluster are not ours to stop
            (own,) = device.devices
            workers = LocalWorkers(runner, guard, cores, study.has_other_driver_here)
            workers.resume()
            device = PausingDevice(own, workers)
            closing.callback(device.end_pause)
        slots, driver = resources.trainers, DriverId.current()
        session = Session(space, study, ledger, runner, device, driver, slots, progress)
        workspace = home.workspace(space, data_spec(space, study.attributes.get("data")), store)
        ended = run_to_end(drive(session, workspace, options))
        observers.finished(partial(FinalFront.read, study, ledger))
        return ended


def _try_what_is_needed(space: SearchSpace, progress: Progress, options: Options) -> None:
    """Say all that is away or does not fit in one message, before anything is started. Workers of a cluster fetch
    weights for themselves."""
    of_workers = [] if options.ray_address is not None else hub_probes(space)
    connections = try_patiently([*probes_of_driver(space), *of_workers], progress.note)
    connections.require(f"study {space.study!r} was not started")
    for note in connections.notes:
        progress.note(note)


async def drive(session: Session, workspace: Workspace, options: Options) -> SearchEnd:
    """The search from its data to its front, with what was opened for it."""
    context = StageContext.of(workspace, session.ledger, session.runner, session.driver, session.progress)
    with doing(context.clock.run):
        async with announce_other_runs(session.ledger, session.study.name, session.progress):
            return await _drive(session, context, options)


async def _drive(session: Session, context: StageContext, options: Options) -> SearchEnd:
    showing = asyncio.create_task(StallWatch(context, session.device).show())
    try:
        async with alive(context.single_flight.renew):
            ready, _ = await context.run(DataJob(context.workspace))
    finally:
        showing.cancel()
    for note in ready.notes:
        session.progress.note(f"data: {note}")
    refuse_unknown_names(session.space, ready.description["class_names"])
    refuse_other_channels(session.space, ready.description["channels"])
    device = session.device
    can_run = deployable_on(device.devices)
    plans = plan_space(session.space, can_run)
    for reason in dict.fromkeys(filter(None, map(can_run, deployments_of(session.space, device.name)))):
        session.progress.note(f"not searched: {reason}")
    config = stage_config_of(plans, ready.description)
    adopt_data(session.study, ready.description)
    adopt_judge(session.study, config.judged_by)
    adopt_samples(session.study, ready.samples)
    session.study.adopt(session.space)  # last: a refusal changes nothing
    if session.study.space_change is not None:
        change = session.study.space_change.describe()
        session.progress.note(f"the space file has changed: {change}; finished trials are kept")
    pipeline = Pipeline(config, context, session.device)
    return await Driver(session, pipeline, plans).run(options.retry_failed)
