"""A study whose files are on a server: other machines have the database and that server, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import fsspec
import pytest

from vitsearch import api
from vitsearch.errors import StoreError
from vitsearch.storage import addresses, remote_files
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.remote_files import RemoteStore
from vitsearch.testing.fakes import FakeDevice, FakeRunner

STORE = RemoteStore("memory://team/vit")


@pytest.fixture(autouse=True)
def server_in_memory(monkeypatch):
    monkeypatch.setattr(addresses, "SERVERS", (*addresses.SERVERS, "memory"))
    monkeypatch.setattr(remote_files, "PAUSES_S", ())


@pytest.fixture
def to_machine(tmp_path, monkeypatch):
    """to_machine(name): from here on this is another machine, with a cache of its own."""

    def move(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        remote_files._seen.clear()

    fsspec.filesystem("memory").store.clear()
    move("first")
    return move


@pytest.fixture
def study(make_study, to_machine):
    remote = replace(make_study(trials=3), store=STORE)
    ledger = Ledger.open(remote.space.storage)
    ledger.inventory.adopt_files_place(STORE.url)
    ledger.close()
    remote.run()
    return remote


def elsewhere(study, tmp_path):
    return replace(study, folder=tmp_path / "elsewhere", runner=FakeRunner(), device=FakeDevice())


def test_a_finished_study_makes_nothing_on_another_machine(study, to_machine, tmp_path):
    to_machine("second")
    other = elsewhere(study, tmp_path)
    assert other.run().complete
    assert (+other.runner.runs, +other.device.measured) == (Counter(), Counter())


def test_a_study_goes_on_on_another_machine(study, to_machine, tmp_path):
    before = Counter(study.runner.runs)
    to_machine("second")
    more = elsewhere(study, tmp_path).with_space(search__trials=5)
    assert more.run().complete
    assert more.trained == 5
    assert more.runner.runs["train"] == 5 - before["train"]
    assert more.runner.runs["base"] == more.runner.runs["block_structure"] == 0


@pytest.mark.long
def test_the_front_is_read_without_the_server(study, to_machine, monkeypatch):
    here = api.open_study(study.folder / "fake.db").front()
    assert all(point.file is not None for point in here.points)
    to_machine("second")
    monkeypatch.setattr(remote_files, "_server", None)
    there = api.open_study(study.folder / "fake.db").front()
    assert [point.file for point in there.points] == [None] * len(here.points)
    assert [point.sha256 for point in there.points] == [point.sha256 for point in here.points]


def test_a_store_that_is_away_ends_the_run_and_loses_nothing(study, to_machine, tmp_path, monkeypatch):
    to_machine("second")
    more = elsewhere(study, tmp_path).with_space(search__trials=5)

    def away(url):
        raise ConnectionError("no route to host")

    with monkeypatch.context() as patch:
        patch.setattr(remote_files, "_server", away)
        with pytest.raises(StoreError, match=r"files memory://team/vit cannot be read: no route to host"):
            more.run()
    assert more.run().complete
    assert more.trained == 5
    assert more.runner.runs["base"] == 0
