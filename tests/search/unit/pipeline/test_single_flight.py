"""One maker per key, inside a driver and between drivers. More of it, with whole stages, in test_lab.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from vitsearch.core.stage import Stage, StageKey
from vitsearch.errors import StageError, WorkerCrashed
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch.storage.stage_cost import StageCost

ROW = ArtifactRow("k", "onnx", "ab" * 32, 1, "here", {})


KEY = StageKey(Stage.TRAIN, "key")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'single_flight.db'}")
    yield ledger
    ledger.close()


class Maker:
    """Counts how often the row was made."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.made = 0

    def find(self) -> ArtifactRow | None:
        return self._ledger.artifact("k")

    async def make(self) -> tuple[ArtifactRow, StageCost]:
        await asyncio.sleep(0)
        self.made += 1
        return ROW, StageCost(0.5, {"torch": "2"})


def test_all_who_want_it_share_one_making_and_the_ledger_has_it(ledger):
    maker, single_flight = Maker(ledger), SingleFlight(ledger, DriverId.current())

    async def three() -> list[ArtifactRow]:
        return await asyncio.gather(*(single_flight.get(KEY, maker.find, maker.make) for _ in range(3)))

    assert asyncio.run(three()) == [ROW] * 3
    assert maker.made == 1
    assert ledger.artifact("k") == ROW


def test_a_maker_that_failed_leaves_no_claim_behind(ledger):
    single_flight = SingleFlight(ledger, DriverId.current())

    async def fail() -> tuple[ArtifactRow, StageCost]:
        raise StageError("train", "crash", "x")

    with pytest.raises(StageError):
        asyncio.run(single_flight.get(KEY, lambda: None, fail))
    assert ledger.claims() == {}


@pytest.mark.parametrize(("error", "tries"), [(WorkerCrashed, 1), (StageError, 3)])
def test_only_what_crashed_its_workers_is_not_made_again(ledger, error, tries):
    single_flight, made = SingleFlight(ledger, DriverId.current()), []

    async def fail() -> tuple[ArtifactRow, StageCost]:
        made.append(1)
        raise error("train", "crash", "2 workers died")

    for _ in range(3):
        with pytest.raises(error, match="2 workers died"):
            asyncio.run(single_flight.get(KEY, lambda: None, fail))
    assert len(made) == tries


def test_stop_ends_what_is_being_made(ledger):
    single_flight = SingleFlight(ledger, DriverId.current())

    async def forever() -> tuple[ArtifactRow, StageCost]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def begin_and_stop() -> None:
        waiting = asyncio.ensure_future(single_flight.get(KEY, lambda: None, forever))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await single_flight.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(begin_and_stop())
    assert ledger.claims() == {}


def test_a_dead_driver_s_claim_is_dropped_and_a_living_one_s_is_not(ledger):
    living, dead = DriverId.current(), replace(DriverId.current(), started="1")

    async def hold(driver: DriverId, key: str) -> None:
        SingleFlight(ledger, driver)._ledger.claim(key, SingleFlight(ledger, driver)._token, 60)

    asyncio.run(hold(living, "a"))
    asyncio.run(hold(dead, "b"))
    SingleFlight(ledger, living).drop_dead()
    assert list(ledger.claims()) == ["a"]
