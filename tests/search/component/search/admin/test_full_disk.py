"""`studies clean` and `studies delete` free space on a disk that is full."""

from __future__ import annotations

import shutil

import pytest

from support.disks import fill, small_disk
from vitsearch.search.admin.housekeeping import clean, delete, plan_deletion
from vitsearch.storage.files import FileStore


@pytest.fixture
def full_disk(finished_copy, tmp_path):
    """A full disk with a finished study, `studies/fake.db`, and a file that none of its results names."""
    study = finished_copy()
    with small_disk(tmp_path / "disk") as disk:
        shutil.copytree(study.folder.parent, disk / "studies", ignore=shutil.ignore_patterns("disk"))
        (tmp_path / "unnamed").write_bytes(bytes(100_000))
        store = FileStore(disk / "studies" / "fake.files" / "artifacts")
        store.prepare()
        store.put(tmp_path / "unnamed")
        fill(disk)
        yield disk


def free(disk):
    return shutil.disk_usage(disk).free


@pytest.mark.long
def test_what_no_result_names_is_freed(full_disk):
    assert free(full_disk) == 0
    freed = clean(str(full_disk / "studies" / "fake.db"), dry_run=False)
    assert freed.bytes >= 100_000
    assert free(full_disk) >= 100_000


@pytest.mark.long
def test_the_only_study_of_a_database_is_deleted(full_disk):
    delete(plan_deletion(str(full_disk / "studies" / "fake.db")))
    assert not (full_disk / "studies" / "fake.db").exists()
    assert free(full_disk) > 100_000
