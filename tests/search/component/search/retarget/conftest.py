"""A finished study between the fakes, and a board on which its models are slower, each kind by a factor of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from vitsearch.core.plan import Deployment, Plan
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.search.retarget.retargeting import RetargetLoop
from vitsearch.search.retarget.untrained_runner import UntrainedRunner
from vitsearch.storage.ledger import Ledger
from vitsearch.study.retargeted import Retargeted, Target
from vitsearch.testing.fakes import FakeDevice, fake_measurement
from vitsearch_agent.wire.protocol import Measurement, MeasureProtocol

NANO = Target("nano")


@dataclass
class Board(FakeDevice):
    """int8 gains nothing on it."""

    name: str = "nano"

    def __post_init__(self) -> None:
        self.info = self.info._replace(device_id="nano-1")

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        self.before(artifact)
        self.measured[protocol.id] += 1
        cost_ms = 8.0 * float(json.loads(artifact.read_text())["cost_ms"]) ** 0.9
        cost_ms *= 1.0 if deployment.precision == "fp32" else 1.0 / 0.42
        where = {"device_id": self.info.device_id, "environment_id": self.info.environment_id}
        return fake_measurement(cost_ms, protocol, runtime=deployment.runtime, **where)


def nothing(plan: Plan) -> str | None:
    return None


@dataclass
class Moved:
    """`retarget` is one call of the command; call it again to resume."""

    study: Any
    board: Board = field(default_factory=Board)

    def retarget(
        self, target: Target = NANO, every: bool = False, refused: Callable[[Plan], str | None] = nothing
    ) -> Retargeted:
        with self.study.opened() as (study, ledger):
            pipeline = self.pipeline(ledger, target)
            return asyncio.run(RetargetLoop(study, ledger, pipeline, target, refused).run(every))

    def pipeline(self, ledger: Ledger, target: Target) -> Pipeline:
        there = replace(
            self.study,
            space=target.space(self.study.space),
            device=self.board,
            runner=UntrainedRunner(self.study.runner),
        )
        return there.pipeline(ledger)


@pytest.fixture
def moved(finished_copy) -> Moved:
    return Moved(finished_copy())
