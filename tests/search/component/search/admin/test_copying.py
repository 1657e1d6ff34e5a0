"""Studies that move from one database to another, and go on there."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from support.marks import long
from vitsearch import api
from vitsearch.core.json_value import json_of
from vitsearch.errors import StudyError
from vitsearch.search.admin.copying import copy
from vitsearch.search.admin.housekeeping import delete, plan_deletion
from vitsearch.space import SearchSpace
from vitsearch.stages import TrainJob
from vitsearch.storage import addresses, remote_files
from vitsearch.storage.addresses import masked
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Destination, Ledger, files_folder
from vitsearch.study.database.opening import study_names
from vitsearch.study.printed.models import PrintedFront
from vitsearch.testing.fakes import FakeDevice, FakeRunner


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The files of a database on a server lie in studies/ below the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study(finished_copy):
    return finished_copy(trials=3)


@pytest.fixture(params=["sqlite", *long("postgresql")])
def other(request, tmp_path):
    """The URL of another database."""
    return (
        f"sqlite:///{tmp_path / 'other.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")()
    )


def at(study, url):
    """The study in another database, with nothing made yet by this run."""
    space = SearchSpace.from_json(study.space.to_json() | {"storage": url})
    return replace(study, folder=files_folder(url).resolve(), space=space, runner=FakeRunner(), device=FakeDevice())


def front(url):
    """The front as --json prints it, each file by its content."""
    front = api.open_study(f"{url}#fake").front()
    printed = json_of(PrintedFront.of(front, front.points))
    for point in (printed["baseline"], *printed["points"]):
        point["file"] = point["file"] and Path(point["file"]).read_bytes()
    return printed


def states(study):
    return study.numbers_by_state()


@pytest.mark.long
def test_the_front_is_the_same_in_the_copy_and_in_the_copy_of_the_copy(study, other, tmp_path):
    copy(study.space.storage, other)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    copy(f"{other}#fake", back)
    assert front(other)["points"][0]["file"] is not None
    assert front(back) == front(other) == front(study.space.storage)


def test_the_rest_that_is_shown_is_the_same_too(study, other):
    copy(study.space.storage, other)
    old, new = (api.open_study(f"{url}#fake") for url in (study.space.storage, other))
    assert replace(new.status(), disk=None) == replace(old.status(), disk=None)
    assert new.explain() == old.explain()


def test_a_finished_study_makes_nothing_in_the_copy(study, other):
    copy(study.space.storage, other)
    again = at(study, other)
    assert again.run().complete
    assert +again.runner.runs == Counter()
    assert +again.device.measured == Counter()


def test_a_study_goes_on_in_the_copy_with_what_it_has_trained(study, other):
    copy(study.space.storage, other)
    more = at(study, other).with_space(search__trials=5)
    trained = more.trained
    assert more.run().complete
    assert more.trained == 5
    assert more.runner.runs["train"] == 5 - trained
    assert study.trained == trained


@pytest.mark.long
def test_a_copy_made_while_the_study_runs_goes_on_by_itself(make_study, tmp_path, other):
    study = replace(make_study(trials=3), folder=tmp_path / "fake.files")
    done = []

    def copy_once(job):
        if isinstance(job, TrainJob) and not done:
            done.append(copy(study.space.storage, other))

    study.runner.before = copy_once
    study.run()
    (copied,) = done[0].studies
    there = at(study, other)
    assert states(there)[TrialState.RUNNING] == 0
    assert copied.open == states(there)[TrialState.WAITING] > 0
    assert there.run().complete
    assert states(there)[TrialState.WAITING] == states(there)[TrialState.RUNNING] == 0
    assert (there.trained, study.trained) == (3, 3)


def test_the_same_copy_twice_adds_nothing(study, other):
    first = copy(study.space.storage, other)
    again = copy(study.space.storage, other)
    assert [study.is_new for study in first.studies] == [True]
    assert first.results > 0
    assert first.files > 0
    assert [study.is_new for study in again.studies] == [False]
    assert (again.results, again.files, again.files_gone) == (0, 0, 0)


def test_the_same_copy_puts_files_back_that_are_gone(study, other):
    copied = copy(study.space.storage, other).files
    for path in (files_folder(other) / "artifacts").rglob("*.onnx"):
        path.unlink()
    assert 0 < copy(study.space.storage, other).files < copied
    assert front(other) == front(study.space.storage)


def test_a_study_that_went_on_is_not_replaced(study, other):
    copy(study.space.storage, other)
    before = front(other)
    study.with_space(search__trials=4).run()
    with pytest.raises(StudyError) as caught:
        copy(study.space.storage, other)
    assert "is another version of study 'fake': it has" in str(caught.value)
    assert f"run first: vitsearch studies delete {masked(other)}#fake" in str(caught.value)
    assert front(other) == before


@pytest.mark.long
def test_after_it_was_deleted_the_new_version_is_copied(study, other):
    copy(study.space.storage, other)
    study.with_space(search__trials=4).run()
    delete(plan_deletion(f"{other}#fake"))
    copy(study.space.storage, other)
    assert front(other) == front(study.space.storage)


@pytest.mark.parametrize("at_step", ["put_model", "put", "add_results", "add_study"])
def test_an_interrupted_copy_leaves_no_study_and_is_completed(study, other, monkeypatch, at_step):
    owner = Destination if at_step.startswith("add") else FileStore
    with monkeypatch.context() as patch:
        patch.setattr(owner, at_step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            copy(study.space.storage, other)
    assert study_names(other) == []
    copy(study.space.storage, other)
    assert front(other) == front(study.space.storage)


def interrupt(*_):
    raise KeyboardInterrupt


def test_files_go_where_they_are_asked_to_and_the_database_remembers(study, other, tmp_path):
    place = tmp_path / "team"
    copied = copy(study.space.storage, other, str(place))
    assert copied.files == len([path for path in place.glob("??/*") if path.is_file()])
    assert not (files_folder(other) / "artifacts").exists()
    assert front(other) == front(study.space.storage)
    assert copy(study.space.storage, other).files == 0
    again = replace(at(study, other), store=FileStore(place))
    assert again.run().complete
    assert +again.runner.runs == Counter()


def test_files_come_from_a_server_and_go_to_one(study, tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "SERVERS", ("memory",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = (f"sqlite:///{tmp_path / name}" for name in ("first.db", "second.db"))
    copy(study.space.storage, first, "memory://copied/vit")
    shutil.rmtree(tmp_path / "cache")
    remote_files._seen.clear()
    assert copy(first, second).files_gone == 0
    assert front(second) == front(study.space.storage)


def test_a_place_that_is_not_that_of_the_database_is_refused_before_anything_is_copied(study, other, tmp_path):
    ledger = Ledger.open(other)
    ledger.inventory.adopt_files_place("")
    ledger.close()
    with pytest.raises(StudyError, match="leave 'files' out, or copy its studies into another database"):
        copy(study.space.storage, other, str(tmp_path / "team"))
    assert study_names(other) == []
    assert not (tmp_path / "team").exists()


def test_all_studies_of_a_database_are_copied(study, other):
    second = SearchSpace.from_json(study.space.to_json() | {"study": "second"})
    replace(study, space=second).run()
    copied = copy(study.space.storage, other)
    assert [study.study for study in copied.studies] == ["fake", "second"]
    assert study_names(other) == ["fake", "second"]


@pytest.mark.long
def test_one_of_several_studies_comes_alone(study, other):
    second = SearchSpace.from_json(study.space.to_json() | {"study": "second"})
    replace(study, space=second).with_space(search__trials=6, search__seed=7).run()
    whole = len(named_files(study.space.storage))
    copy(f"{study.space.storage}#fake", other)
    assert study_names(other) == ["fake"]
    assert front(other) == front(study.space.storage)
    assert len(named_files(other)) < whole
    copy(f"{study.space.storage}#second", other)
    assert named_files(other) == named_files(study.space.storage)
    assert at(study, other).run().complete


def named_files(url):
    ledger = Ledger.open(url)
    files = ledger.inventory.named_files()
    ledger.close()
    return files


def test_files_that_are_gone_are_counted_and_made_again(study, other):
    for path in (study.folder / "artifacts").rglob("*.onnx"):
        path.unlink()
    copied = copy(study.space.storage, other)
    assert copied.files_gone > 0
    again = at(study, other)
    assert again.run().complete


def test_a_file_with_other_bytes_than_its_name_says_is_not_copied(study, other):
    model = next((study.folder / "artifacts").rglob("*.onnx"))
    model.write_text("damaged")
    assert copy(study.space.storage, other).files_gone == 1


def test_the_outage_of_a_run_is_not_one_of_the_copy(study, other):
    with study.opened() as (opened, _):
        opened.remember("waits", {"device": "nano", "since": 0.0, "why": "away", "driver": {}})
    copy(study.space.storage, other)
    assert api.open_study(f"{other}#fake").status().waits is None


def test_a_study_that_does_not_exist_is_refused(study, tmp_path):
    with pytest.raises(StudyError, match="no study 'nothing' in this database; it holds: fake"):
        copy(f"{study.space.storage}#nothing", f"sqlite:///{tmp_path / 'other.db'}")
    assert not (tmp_path / "other.db").exists()


def test_a_database_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(StudyError, match=r"none\.db does not exist"):
        copy(str(tmp_path / "none.db"), str(tmp_path / "other.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_not_copied_onto_itself(study):
    with pytest.raises(StudyError, match="is the database that is copied"):
        copy(study.space.storage, "fake.db")


@pytest.mark.long
def test_no_password_is_shown(study, postgresql):
    other = postgresql()
    secret = f"{other}&password=secret" if "?" in other else f"{other}?password=secret"
    copy(study.space.storage, other)
    study.with_space(search__trials=4).run()
    with pytest.raises(StudyError) as caught:
        copy(study.space.storage, secret)
    assert "secret" not in str(caught.value)
