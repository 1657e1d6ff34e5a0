"""One maker per key, inside a driver and between drivers. More of it, with whole stages, in test_pipeline.py."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
from dataclasses import replace

import pytest

from support.evaluations import evaluation
from vitsearch.core.stage import Stage, StageKey
from vitsearch.errors import StageError, WorkerCrashed
from vitsearch.pipeline import single_flight
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import ArtifactRow, Claim, Ledger
from vitsearch.storage.sightings import Sightings
from vitsearch.storage.stage_cost import StageCost

FILE = hashlib.sha256(b"model").hexdigest()
ROW = ArtifactRow("k", "onnx", FILE, 1, "here", {})


KEY = StageKey(Stage.TRAIN, "key")


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "artifacts")


class Maker:
    """Makes the row and its file, and counts how often."""

    def __init__(self, ledger: Ledger, store: FileStore, content: bytes = b"model") -> None:
        self._ledger = ledger
        self._store = store
        self._content = content
        self.runs = 0

    def find(self) -> ArtifactRow | None:
        return self._ledger.artifact("k")

    async def make(self) -> tuple[ArtifactRow, StageCost]:
        await asyncio.sleep(0)
        self.runs += 1
        path = self._store.root.parent / "model"
        path.write_bytes(self._content)
        return replace(ROW, sha256=self._store.put(path)), StageCost(0.5, {"torch": "2"})


def test_all_who_want_it_share_one_making_and_the_ledger_has_it(ledger, store):
    maker, single_flight = Maker(ledger, store), SingleFlight(ledger, store, DriverId.current())

    async def three() -> list[ArtifactRow]:
        return await asyncio.gather(*(single_flight.get(KEY, maker.find, maker.make) for _ in range(3)))

    assert asyncio.run(three()) == [ROW] * 3
    assert maker.runs == 1
    assert ledger.artifact("k") == ROW


def test_a_row_whose_file_is_gone_is_made_again_and_replaced(ledger, store, caplog):
    caplog.set_level("WARNING")  # whatever a converter in the same process has made of the root logger
    first, again = Maker(ledger, store), Maker(ledger, store, b"the model, made again")
    asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, first.find, first.make))
    ledger.add(evaluation("k", "split", [[0, 0, 9], [0, 1, 1]]), StageCost(0.0, {}))
    shutil.rmtree(store.root)
    row = asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, again.find, again.make))
    assert row == ledger.artifact("k") != ROW
    assert store.holds(row.sha256)
    assert ledger.evaluation("k", "split") is None, "it was that of another file"
    assert caplog.messages == [f"files in {store.root} are gone or damaged: the stages that made them run again"]


def test_a_row_whose_file_has_other_bytes_is_made_again(ledger, store):
    first, again = Maker(ledger, store), Maker(ledger, store)
    row = asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, first.find, first.make))
    (path,) = [path for path in store.root.rglob("*") if path.is_file()]
    path.write_bytes(b"other bytes")
    assert asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, again.find, again.make)) == row
    assert (again.runs, store.holds(row.sha256)) == (1, True)


def test_a_row_that_has_lost_one_of_several_files_is_made_again(ledger, store):
    maker = Maker(ledger, store)
    row, cost = asyncio.run(maker.make())
    ledger.add(replace(row, detail={"outputs_sha256": "ab" * 32}), cost)
    asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, maker.find, maker.make))
    assert maker.runs == 2
    assert ledger.artifact("k") == row


def test_a_screened_graph_needs_no_file(ledger, store):
    ledger.add(replace(ROW, kind=Stage.SCREEN), StageCost(0.0, {}))
    maker = Maker(ledger, store)
    asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, maker.find, maker.make))
    assert maker.runs == 0


def test_a_maker_that_failed_leaves_no_claim_behind(ledger, store):
    single_flight = SingleFlight(ledger, store, DriverId.current())

    async def fail() -> tuple[ArtifactRow, StageCost]:
        raise StageError("train", "crash", "x")

    with pytest.raises(StageError):
        asyncio.run(single_flight.get(KEY, lambda: None, fail))
    assert ledger.claims() == {}


@pytest.mark.parametrize(("error", "tries"), [(WorkerCrashed, 1), (StageError, 3)])
def test_only_what_crashed_its_workers_is_not_made_again(ledger, store, error, tries):
    single_flight, calls = SingleFlight(ledger, store, DriverId.current()), []

    async def fail() -> tuple[ArtifactRow, StageCost]:
        calls.append(1)
        raise error("train", "crash", "2 workers died")

    for _ in range(3):
        with pytest.raises(error, match="2 workers died"):
            asyncio.run(single_flight.get(KEY, lambda: None, fail))
    assert len(calls) == tries


def test_stop_ends_what_is_being_made(ledger, store):
    single_flight = SingleFlight(ledger, store, DriverId.current())

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


def test_a_dead_driver_s_claim_is_dropped_and_a_living_one_s_is_not(ledger, store):
    living, dead = DriverId.current(), replace(DriverId.current(), started="1")

    async def hold(driver: DriverId, key: str) -> None:
        SingleFlight(ledger, store, driver)._ledger.claim(Claim(key, SingleFlight(ledger, store, driver)._token), 60)

    asyncio.run(hold(living, "a"))
    asyncio.run(hold(dead, "b"))
    SingleFlight(ledger, store, living).renew()
    assert list(ledger.claims()) == ["a"]


@pytest.fixture
def busy_elsewhere(ledger, store, monkeypatch):
    """A driver of another machine that makes `KEY`, and whose claim ran out while the database was away; and one here
    that wants the same. Returns both."""
    monkeypatch.setattr(single_flight, "CLAIM_POLL_S", 0.001)
    driver = DriverId.current()
    there = SingleFlight(ledger, store, replace(driver, host="elsewhere", machine="elsewhere"))
    ledger.claim(there._claim(KEY), -1)
    return there, SingleFlight(ledger, store, driver)


def test_a_maker_that_renews_its_claim_after_an_outage_keeps_it(ledger, busy_elsewhere, store):
    there, here = busy_elsewhere
    maker = Maker(ledger, store)

    async def outage_ends() -> ArtifactRow:
        waiting = asyncio.ensure_future(here.get(KEY, maker.find, maker.make))
        await asyncio.sleep(0.02)
        here.renew()  # the heartbeat of who waits takes nothing either
        assert ledger.renew(there._claim(KEY), 60)
        row, cost = await maker.make()
        assert ledger.add(row, cost, there._claim(KEY))
        return await waiting

    assert asyncio.run(outage_ends()) == ROW
    assert maker.runs == 1


def test_a_claim_that_stays_expired_is_taken_over(ledger, busy_elsewhere, store):
    _, here = busy_elsewhere
    here._expired = Sightings(0.01)
    maker = Maker(ledger, store)
    assert asyncio.run(here.get(KEY, maker.find, maker.make)) == ROW
    assert ledger.claims() == {}


def test_who_has_lost_its_claim_goes_on_with_the_result_that_is_there(ledger, store):
    maker = Maker(ledger, store)

    async def make():
        ledger.add(replace(ROW, sha256="0" * 64), StageCost(0.0, {}))  # another driver's, whose claim came after ours
        return await maker.make()

    row = asyncio.run(SingleFlight(ledger, store, DriverId.current()).get(KEY, maker.find, make))
    assert row == ledger.artifact("k") == replace(ROW, sha256="0" * 64)


def test_a_server_of_files_that_is_away_holds_up_nothing_else(ledger, store):
    class Away:
        """Answers only when something else has gone on."""

        is_remote = True
        went_on = threading.Event()

        def holds(self, sha256):
            return self.went_on.wait(30)

    ledger.add(ROW, StageCost(0.0, {}))
    maker = Maker(ledger, store)

    async def both():
        task = asyncio.ensure_future(SingleFlight(ledger, Away(), DriverId.current()).get(KEY, maker.find, maker.make))
        await asyncio.sleep(0.01)
        Away.went_on.set()
        return await task

    assert asyncio.run(both()) == ROW
    assert maker.runs == 0
