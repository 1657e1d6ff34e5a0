"""A driver gives signs of life, and ends when its study is deleted."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import create_engine, text

from vitsearch import stages
from vitsearch.errors import StoreError, StudyDeleted, StudyError
from vitsearch.search.admin.housekeeping import delete, end_runs, plan_deletion
from vitsearch.search.study_folders import StudyFolders
from vitsearch.search.watch import heartbeat
from vitsearch.search.watch.heartbeat import alive
from vitsearch.testing.fakes import FakeRunner


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)


def deleted():
    raise StudyDeleted("the study is deleted")


def away():
    raise StoreError("the database is away")


def lives(block, *beats):
    async def live():
        async with alive(*beats):
            return await block()

    return asyncio.run(live())


def test_beats_are_called_until_the_block_ends():
    calls = []

    async def block():
        while len(calls) < 3:
            await asyncio.sleep(0.001)
        return "ended"

    assert lives(block, lambda: calls.append(1)) == "ended"


def test_a_beat_that_fails_is_made_up_for_by_the_next():
    calls = []

    async def block():
        while len(calls) < 3:
            await asyncio.sleep(0.001)

    lives(block, lambda: calls.append(1), away)


def test_a_deletion_cancels_the_block():
    async def block():
        await asyncio.sleep(3600)

    with pytest.raises(StudyDeleted, match="the study is deleted"):
        lives(block, deleted)


def test_what_fails_because_the_study_is_gone_is_the_deletion():
    async def block():
        raise KeyError("no trial 3")

    with pytest.raises(StudyDeleted):
        lives(block, deleted)


@pytest.mark.parametrize("error", [KeyError("a fault"), StoreError("full"), asyncio.CancelledError()])
def test_other_errors_of_the_block_stay(error):
    async def block():
        raise error

    with pytest.raises(type(error)):
        lives(block, away)


class EndlessTraining(FakeRunner):
    """Its first training lasts until it is cancelled."""

    def __init__(self):
        super().__init__()
        self.has_begun = threading.Event()

    async def run(self, job):
        if isinstance(job, stages.TrainJob):
            self.has_begun.set()
            await asyncio.sleep(3600)
        return await super().run(job)


@pytest.fixture
def under_way(fake_study):
    """A run in another thread, which says in `ended` how it has ended."""
    fake_study.runner = EndlessTraining()
    ended = []

    def run():
        try:
            with StudyFolders.of(fake_study.space).running(print):
                ended.append(fake_study.run())
        except BaseException as error:  # noqa: BLE001 - of another thread
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert fake_study.runner.has_begun.wait(60)
    yield thread, ended
    thread.join()


def test_a_study_that_is_run_is_deleted_only_after_its_run(fake_study, under_way, tmp_path):
    thread, ended = under_way
    planned, notes = plan_deletion(str(tmp_path / "fake.db")), []
    assert [run.purpose for run in planned.live_runs] == ["search"]
    with pytest.raises(StudyError):
        delete(planned)
    end_runs(planned, notes.append)
    thread.join()
    (error,) = ended
    assert isinstance(error, StudyDeleted)
    assert str(error).startswith("study 'fake' is being deleted by ")
    assert str(error).endswith("(vitsearch studies delete --force); this run ends")
    assert notes[0].startswith("waiting until the run by ")
    delete(planned)
    assert not (tmp_path / "fake.db").exists()


def test_a_run_elsewhere_keeps_its_study(fake_study, under_way, tmp_path, monkeypatch):
    monkeypatch.setattr(StudyFolders, "has_own", False)  # the lock is on the other machine
    with pytest.raises(
        StudyError, match=r"a run is active \(by \S+ on .* \(pid \d+\) since .* UTC\); stop it first, or add"
    ):
        delete(planned := plan_deletion(str(tmp_path / "fake.db")))
    end_runs(planned, print)


def test_a_run_whose_study_vanished_ends_with_one_line(fake_study, under_way):
    thread, ended = under_way
    engine = create_engine(fake_study.space.storage)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM vs_run"))
    engine.dispose()
    thread.join()
    assert [str(error) for error in ended] == ["the study of this run was deleted: the run ends"]
