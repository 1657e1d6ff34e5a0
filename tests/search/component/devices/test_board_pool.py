"""Several boards of one class, of which some become silent."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vitsearch.devices import board_pool
from vitsearch.devices.agent_device import Outage
from vitsearch.devices.board_pool import FAILOVER, BoardPool
from vitsearch.errors import ResourceError, StageError
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import SCREEN


@dataclass
class Board(FakeDevice):
    """Takes 20 ms, or until `answers` is set, or until each of those that `meet` has a model."""

    answers: asyncio.Event | None = None
    meet: asyncio.Barrier | None = None
    now: int = 0
    most: list[int] = field(default_factory=lambda: [0])

    async def measure(self, *arguments):
        self.now += 1
        self.most[0] = max(self.most[0], self.now)
        try:
            if self.meet is not None:
                await self.meet.wait()
            elif self.answers is None:
                await asyncio.sleep(0.02)
            else:
                self.outage = Outage(time.monotonic() - 60.0, "timed out")
                await self.answers.wait()
                self.outage = None
            return await super().measure(*arguments)
        finally:
            self.now -= 1


def board(name, **changes):
    info = FakeDevice.info._replace(device_id=name)
    return Board(name, info=info._replace(**changes))


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    return path


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(board_pool, "POLL_S", 0.01)


async def measured(pool, model, plan, count):
    requests = [pool.measure(model, plan.deployment, SCREEN, repeat) for repeat in range(count)]
    return await asyncio.gather(*requests)


def test_each_board_measures_one_model_at_a_time_and_all_of_them_work(model, plan):
    boards = [board(name) for name in ("a", "b", "c")]
    pool = BoardPool("class", boards, print)

    async def run():
        meet = asyncio.Barrier(3)
        for each in boards:
            each.meet = meet
        return await asyncio.wait_for(measured(pool, model, plan, 9), 60.0)

    measurements = asyncio.run(run())
    assert {measurement.device_id for measurement in measurements} == {pool.info.device_id}
    assert [board.most[0] for board in boards] == [1, 1, 1]
    assert sorted(board.measured[SCREEN.id] for board in boards) == [3, 3, 3]


def test_the_work_of_a_silent_board_goes_on_on_another_and_is_flagged(model, plan):
    said = []

    async def run():
        boards = [board("a"), board("b")]
        boards[0].answers = asyncio.Event()
        pool = BoardPool("class", boards, said.append)
        measurements = await measured(pool, model, plan, 4)
        assert pool.outage is None, "the other one answers"
        boards[0].answers.set()
        return measurements

    flags = [measurement.flags for measurement in asyncio.run(run())]
    assert flags.count((FAILOVER,)) == 1
    assert said == ["device a does not answer; its work goes on on b"]


def test_a_board_that_is_back_measures_again(model, plan):
    async def run():
        boards = [board("a"), board("b")]
        boards[0].answers = asyncio.Event()
        pool = BoardPool("class", boards, lambda line: None)
        await measured(pool, model, plan, 2)
        boards[0].answers.set()
        await asyncio.sleep(0.05)
        boards[0].answers = None
        before = boards[0].measured[SCREEN.id]
        await measured(pool, model, plan, 4)
        return boards[0].measured[SCREEN.id] - before

    assert asyncio.run(run()) >= 1


def test_a_model_that_fails_fails_on_one_board_and_leaves_it_free(model, plan):
    def fail(path):
        raise StageError("measure", "crash", "boom")

    boards = [board("a"), board("b")]
    for failing in boards:
        failing.before = fail
    pool = BoardPool("class", boards, print)

    async def run():
        return await asyncio.gather(
            *(pool.measure(model, plan.deployment, SCREEN, n) for n in range(5)), return_exceptions=True
        )

    assert [str(error) for error in asyncio.run(run())] == ["measuring failed (crash): boom"] * 5


def test_a_pool_is_out_only_when_all_of_its_boards_are():
    boards = [board("a"), board("b")]
    pool = BoardPool("class", boards, print)
    boards[0].outage = Outage(1.0, "first")
    assert pool.outage is None
    boards[1].outage = Outage(2.0, "second")
    assert pool.outage == Outage(2.0, "second")


def test_the_class_keeps_its_identity_when_boards_come_and_go():
    pools = [BoardPool("class", [board(name) for name in names], print) for names in (("a", "b"), ("c", "b", "a"))]
    assert len({pool.info.device_id for pool in pools}) == 1


def test_boards_of_two_classes_are_refused_with_the_difference():
    other = board("b", environment_id="f" * 64, fingerprint={"cpu": "another"})
    message = "^devices: a and b are not of one class, so their measurements do not compare: cpu None and 'another'$"
    with pytest.raises(ResourceError, match=message):
        BoardPool("class", [board("a"), other], print)


def test_one_board_under_two_names_is_refused():
    with pytest.raises(ResourceError, match="^devices: a and b are the same device$"):
        BoardPool("class", [board("a"), Board("b", info=FakeDevice.info._replace(device_id="a"))], print)


def test_a_board_that_changes_during_the_run_ends_it_with_one_line(model, plan):
    boards = [board("a"), board("b")]
    pool = BoardPool("class", boards, print)
    boards[1].info = boards[1].info._replace(environment_id="f" * 64)
    with pytest.raises(ResourceError, match="a and b are not of one class, so their measurements do not compare"):
        asyncio.run(measured(pool, model, plan, 2))
