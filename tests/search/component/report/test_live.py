"""The report of a running study is made again when there is something new, and only then."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from vitsearch.errors import StudyError
from vitsearch.report import live
from vitsearch.report.live import LiveStudy
from vitsearch.study.lookup import opened


def numbers(study):
    return [number for number in json.loads(study.data())["trials"]["number"] if number is not None]


def test_nothing_is_read_again_without_a_change(finished):
    with closing(LiveStudy(f"{finished.folder / 'fake.db'}")) as study:
        assert study.look()
        assert not study.look()
        assert study.version == 1


def test_a_finished_trial_is_there_at_the_next_look(make_study):
    fake = make_study(trials=1)
    fake.run()
    with closing(LiveStudy(f"{fake.folder / 'fake.db'}")) as study:
        study.look()
        fake.with_space(search__trials=2).run()
        assert study.look()
        assert numbers(study) == list(fake.records())


def test_stages_alone_wait_a_little(make_study, monkeypatch):
    fake = make_study(trials=1)
    fake.run()
    with closing(LiveStudy(f"{fake.folder / 'fake.db'}")) as study:
        study.look()
        ledger = study._ledger
        monkeypatch.setattr(ledger, "revision", lambda: "another")
        assert not study.look()
        monkeypatch.setattr(live, "QUIET_S", 0.0)
        assert study.look()


def test_a_study_that_is_gone_is_named_without_its_password(finished, monkeypatch):
    database, url = f"{finished.folder / 'fake.db'}", "postgresql+psycopg://me:secret@db/vit#fake"
    monkeypatch.setattr(live, "opened", lambda _: opened(database))
    with closing(LiveStudy(url)) as study:
        monkeypatch.setattr(type(study._study), "is_there", lambda _: False)
        monkeypatch.setattr(live, "opened", lambda _: opened(f"{database}x.db"))
        assert not study.find()
        assert study.gone == "study 'postgresql+psycopg://me:***@db/vit#fake' is gone: it was deleted"


def test_a_study_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(StudyError, match="no study 'nothing': .*nothing.db does not exist"):
        LiveStudy(f"{tmp_path / 'nothing.db'}")
