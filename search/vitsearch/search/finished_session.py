"""Workers and the device of a study whose search has ended, for what is made of its models afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from vitsearch.core.activity import doing
from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.devices.deployable import deployable_on
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Progress
from vitsearch.search.open_device import cores_kept_free, described, open_device
from vitsearch.search.plan_space import plan_space
from vitsearch.search.resources import cores_of, one_trainer
from vitsearch.search.stage_config import data_spec, stage_config_of
from vitsearch.search.study_folders import StudyFolders
from vitsearch.search.watch.heartbeat import alive
from vitsearch.search.watch.outage import OutageHandler
from vitsearch.search.watch.stall import StallWatch
from vitsearch.search.weighted_classes import refuse_unknown_names
from vitsearch.space import SearchSpace
from vitsearch.stages import DataJob, Runner
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stores import writable_store
from vitsearch.study.identity import adopt_data, adopt_judge
from vitsearch.study.study import Study
from vitsearch.workers.process_guard import ProcessGuard
from vitsearch.workers.ray_runner import RayRunner


@dataclass(frozen=True)
class Workplace:
    """What works for one command. `space` has the device, and the storage at which the study was found."""

    study: Study
    ledger: Ledger
    space: SearchSpace
    runner: Runner
    device: DeviceGroup
    progress: Progress

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """The stages on the study's own data. Inside the block claims are renewed, and it is shown what is waited
        for."""
        spec = data_spec(self.space, self.study.attributes.get("data"))
        workspace = StudyFolders.of(self.space).workspace(self.space, spec, writable_store(self.ledger))
        context = StageContext.of(workspace, self.ledger, self.runner, DriverId.current(), self.progress)
        context.single_flight.drop_dead()
        with doing(context.clock.run):
            async with alive(context.single_flight.renew):
                try:
                    async with self._watched(context) as pipeline:
                        yield pipeline
                finally:
                    await context.single_flight.stop()

    @asynccontextmanager
    async def _watched(self, context: StageContext) -> AsyncIterator[Pipeline]:
        stall = StallWatch(context, self.device)
        showing = asyncio.create_task(stall.show())
        try:
            ready, _ = await context.run(DataJob(context.workspace))
        finally:
            showing.cancel()
        adopt_data(self.study, ready.description)
        refuse_unknown_names(self.space, ready.description["class_names"])
        plans = plan_space(self.space, deployable_on(self.device.devices))
        config = replace(stage_config_of(plans, ready.description), has_test=ready.has_test)
        adopt_judge(self.study, config.judged_by)
        pipeline = Pipeline(config, context, self.device)
        outages = OutageHandler(pipeline, self.study, context.single_flight.driver, self.progress, stall)
        watching = asyncio.create_task(outages.watch((), tuple))
        try:
            yield pipeline
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@contextmanager
def opened(study: Study, ledger: Ledger, space: SearchSpace, progress: Progress) -> Iterator[Workplace]:
    """Start one worker and connect the device of `space`. No other run of the study is on this machine meanwhile."""
    home = StudyFolders.of(space)
    with ExitStack() as closing:
        closing.enter_context(home.alone())
        cores = closing.enter_context(cores_kept_free(space))
        resources = one_trainer(space, cores)
        closing.enter_context(ProcessGuard())
        ledger.costs.start_run(space.study, cores_of(space, cores, None), purpose="afterwards")
        progress.note(f"connecting device {', '.join(space.device_names)}")
        device = closing.enter_context(open_device(study, space, cores, progress.note))
        progress.note("; ".join([*map(described, device.devices), "starting a worker"]))
        runner = RayRunner(resources, home.logs, None)
        closing.callback(runner.close)
        yield Workplace(study, ledger, space, runner, device, progress)
