"""What a study takes on disk."""

from __future__ import annotations

from contextlib import closing

import pytest

import vitsearch as vs
from vitsearch.search.admin.disk_use import disk_use
from vitsearch.search.study_folders import StudyFolders
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stores import adopt_store
from vitsearch.study.lookup import find
from vitsearch.study.study import Study


@pytest.fixture
def stored(space, tmp_path):
    """A study with one file in its store, one decoded image and an agent that has kept a model."""
    home = StudyFolders.of(space)
    with home.running(print):
        Study.open(space).close()
    (tmp_path / "weights").write_bytes(b"w" * 700)
    with closing(Ledger.open(space.storage)) as ledger:
        adopt_store(ledger, None, {}).put(tmp_path / "weights")
    for path, size in ((home.shared / "cache/image", 50), (home.agent / "blobs/model", 400), (home.logs / "log", 3)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return tmp_path / "fake.db"


def counted(database, **settings):
    with closing(Ledger.to_read(f"sqlite:///{database}")) as ledger:
        return disk_use(find(str(database)), ledger, **settings)


def test_every_part_is_counted(stored):
    use = counted(stored)
    assert (use.files_bytes, use.images_bytes, use.agent_bytes, use.other_bytes) == (700, 50, 400, 3)
    assert use.database_bytes >= stored.stat().st_size
    assert use.files_place == str(stored.parent / "fake.files" / "artifacts")
    assert (use.shared_with, use.is_complete) == ((), True)


def test_a_study_knows_with_whom_it_shares_its_files(stored, space):
    Study.open(SearchSpace.from_json(space.to_json() | {"study": "other"})).close()
    with closing(Ledger.to_read(space.storage)) as ledger:
        assert disk_use(find(f"{stored}#other"), ledger).shared_with == ("fake",)


def test_counting_ends_in_time_and_says_so(stored):
    use = counted(stored, count_s=-1.0)
    assert (use.files_bytes, use.is_complete) == (0, False)


def test_a_server_of_files_is_not_asked(space, tmp_path):
    Study.open(space).close()
    with closing(Ledger.open(space.storage)) as ledger:
        ledger.inventory.adopt_files_place("s3://no-such-bucket/vit")
    use = counted(tmp_path / "fake.db")
    assert (use.files_bytes, use.files_place) == (None, "s3://no-such-bucket/vit")


def test_links_are_not_followed(stored, space):
    (StudyFolders.of(space).agent / "everything").symlink_to("/usr")
    assert counted(stored).agent_bytes == 400


def test_the_state_of_a_study_has_it(finished):
    disk = vs.open_study(finished.space.storage).status().disk
    assert disk.database_bytes > 0
    assert disk.is_complete
