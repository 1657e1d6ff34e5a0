"""How near a run comes to a perfect schedule: `eta` with trainers and devices whose stages sleep for known times.

    python benchmarks/eta.py --trials 40 --trainers 2 --devices 8

`eta` is what `vitsearch status` prints: the time that a perfect schedule would have needed (the work of trainers by
their number, that of devices over theirs, the longest trial) over the time of the run. Stages wait and compute nothing,
so the driver is what is measured. They are 30 times shorter than those of a small model: each moment that the driver
loses counts 30 times.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from driver_cost import EverBetter, search, space_for

from vitsearch import stages
from vitsearch.core.plan import Deployment
from vitsearch.core.stage import Stage
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.accounting import account
from vitsearch.study.study import Study
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import CONFIRM, Measurement, MeasureProtocol

STAGES_S = {Stage.TRAIN: 3.0, Stage.PROXY: 0.15, Stage.SCREEN: 0.1, Stage.EXPORT: 0.25}
MEASURING_S = {CONFIRM.id: 2.0}
SCREENING_S = 0.6


@dataclass
class SleepingRunner(EverBetter):
    """Stages take their time on one of the trainers."""

    trainers: int = 1
    times: float = 1.0
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.trainers)

    async def run(self, job: stages.Job[stages.R_co]) -> tuple[stages.R_co, StageCost]:
        async with self._slots:
            started_at, started = time.time(), time.monotonic()
            answer, _ = await super().run(job)
            await asyncio.sleep(self.times * STAGES_S.get(job.stage, 0.0))
            return answer, StageCost(0.0, {}, started_at, time.monotonic() - started, "worker bench")


@dataclass
class SleepingDevice(FakeDevice):
    """As many boards as `parallel`, each of which measures one file at a time."""

    times: float = 1.0
    _boards: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._boards = asyncio.Semaphore(self.parallel)

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        async with self._boards:
            seconds = self.times * MEASURING_S.get(protocol.id, SCREENING_S)
            await asyncio.sleep(seconds)
            measurement = await super().measure(artifact, deployment, protocol, repeat)
            return measurement._replace(seconds=seconds)


def run(folder: Path, trials: int, trainers: int, devices: int, sampler: str, times: float) -> dict[str, float]:
    boards = [f"http://board{number}:8470" for number in range(devices)]
    space = SearchSpace.from_json(space_for(folder, trials, sampler).to_json() | {"devices": boards})
    ledger, study = Ledger.open(space.storage), Study.open(space)
    ledger.costs.start_run(space.study, trainers, trainers)
    runner = SleepingRunner(trials=trials, trainers=trainers, times=times)
    device = SleepingDevice(space.device_names[0], parallel=devices, times=times)
    started, cpu = time.monotonic(), time.process_time()
    search(folder, study, ledger, runner, device, trainers)
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    ledger.costs.end_run()
    return shares(space, ledger, study, wall, trainers, devices) | {"driver_cpu_share": cpu / wall}


def shares(
    space: SearchSpace, ledger: Ledger, study: Study, wall: float, trainers: int, devices: int
) -> dict[str, float]:
    costs = account(study, ledger)
    worked = ledger.costs.worked(space.study)
    return {
        "trials": float(len(study.records())),
        "wall_s": wall,
        "eta": math.nan if costs.eta is None else costs.eta,
        "trainers_busy": worked.trainers / trainers / wall,
        "devices_busy": worked.devices / devices / wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40, help="that are trained")
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--sampler", default="random", help="of the space file: random, auto, tpe, nsga2")
    parser.add_argument("--times", type=float, default=1.0, help="stretches all stages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        estimates = run(Path(folder), options.trials, options.trainers, options.devices, options.sampler, options.times)
        for name, value in estimates.items():
            print(f"{name:<20}{value:10.3f}")


if __name__ == "__main__":
    main()
