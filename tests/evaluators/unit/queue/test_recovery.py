import sqlite3

import pytest

from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import AgentError
from vitsearch_agent.queue.blob_store import BlobStore
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.queue.recovery import open_queue
from vitsearch_agent.wire.protocol import SCREEN, BlobRef, JobSpec, Owner

SPEC = JobSpec("measure", (BlobRef("model.onnx", "ab" * 32, 1),), "noop", {}, SCREEN, 0)


@pytest.fixture
def store(tmp_path):
    return BlobStore(str(tmp_path))


def never(seconds):
    raise AssertionError("there is nothing to wait for")


def opened(tmp_path, store, pause=never):
    return open_queue(str(tmp_path / "jobs.sqlite"), LimitsConfig(), store, lambda status: None, pause)


def test_running_jobs_are_queued_again_after_a_restart(tmp_path, store):
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    queue.put("1" * 64, SPEC, Owner("a"))
    queue.claim(0.0)
    queue.close()
    again = opened(tmp_path, store)
    assert again.get("1" * 64).state == "queued"
    again.close()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_damaged_file_is_renamed_and_a_new_queue_begins(tmp_path, store, content):
    (tmp_path / "jobs.sqlite").write_bytes(content)
    queue = opened(tmp_path, store)
    assert queue.active() == []
    queue.close()
    assert (tmp_path / "jobs.sqlite.damaged").read_bytes() == content


@pytest.mark.parametrize("damaged", ["jobs", "jobs_by_state", "events_by_job"])
def test_a_file_with_a_damaged_page_is_renamed_before_a_job_is_taken_from_it(tmp_path, store, damaged):
    """A power cut may leave pages that nobody reads until a job is claimed or ends."""
    path = tmp_path / "jobs.sqlite"
    queue = JobQueue(str(path))
    for number in range(100):
        queue.put(f"{number:064x}", SPEC, Owner(f"study {number % 7}"))
    queue.close()
    database = sqlite3.connect(str(path))
    (size,) = database.execute("PRAGMA page_size").fetchone()
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (damaged,)).fetchone()
    database.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)
    queue = opened(tmp_path, store)
    assert queue.put("1" * 64, SPEC, Owner("a"))[1]
    assert queue.claim(0.0).id == "1" * 64
    queue.close()
    assert (tmp_path / "jobs.sqlite.damaged").read_bytes() == content


def test_a_file_whose_index_lacks_a_job_is_renamed(tmp_path, store):
    """That job would never be claimed."""
    path = str(tmp_path / "jobs.sqlite")
    queue = JobQueue(path)
    queue.put("1" * 64, SPEC, Owner("a"))
    queue.close()
    database = sqlite3.connect(path)
    (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs_by_state'").fetchone()
    database.execute("PRAGMA writable_schema=ON")
    database.execute("DROP INDEX jobs_by_state")
    database.execute(f"{sql} WHERE study = 'nobody'")
    database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'jobs_by_state'", (sql,))
    database.commit()
    database.close()
    queue = opened(tmp_path, store)
    assert queue.active() == []
    queue.close()
    assert (tmp_path / "jobs.sqlite.damaged").exists()


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path, store):
    (tmp_path / "jobs.sqlite").mkdir()
    with pytest.raises(AgentError, match=r"jobs\.sqlite cannot be opened"):
        opened(tmp_path, store)


def test_models_are_removed_for_room_and_then_it_waits(tmp_path, store, monkeypatch):
    """The oldest goes first, even if a job needs it: a client sends it again."""
    for name in ("a" * 64, "b" * 64):
        (tmp_path / "blobs" / name).write_bytes(b"x")
    left, waits = [], []

    def refuse(self):
        left.append(len(list((tmp_path / "blobs").iterdir())))
        if not waits:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(JobQueue, "recover", refuse)
    opened(tmp_path, store, waits.append).close()
    assert left == [2, 1, 0, 0]
    assert len(waits) == 1
