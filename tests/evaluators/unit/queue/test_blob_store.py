import hashlib
import os

import pytest

from vitsearch_agent.errors import ArtifactMissing, InvalidRequest, NotFound, TransferFailed
from vitsearch_agent.queue import blob_store as store_module
from vitsearch_agent.queue import uploads
from vitsearch_agent.queue.blob_store import BlobStore, StoreLimits

LIMITS = StoreLimits(max_blob_bytes=1000, quota_bytes=2500, reserve_bytes=0)


class Clock:
    """A monotonic clock that a test moves."""

    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    return BlobStore(str(tmp_path), LIMITS, clock=clock)


def put(store, content, chunk=100):
    sha256 = hashlib.sha256(content).hexdigest()
    offset = store.prepare(sha256, len(content)).offset
    while offset < len(content):
        offset = store.append(sha256, offset, len(content), content[offset : offset + chunk]).offset
    return sha256


def reason_of(call, *arguments):
    with pytest.raises(TransferFailed) as caught:
        call(*arguments)
    return caught.value.reason


def test_a_blob_is_uploaded_in_chunks_and_copied(store, tmp_path):
    sha256 = put(store, b"a" * 950)
    assert store.progress(sha256) == (950, True)
    store.copy(sha256, str(tmp_path / "model"))
    assert (tmp_path / "model").read_bytes() == b"a" * 950


def test_whoever_changes_a_copy_does_not_change_the_blob(store, tmp_path):
    """A measured model owns its folder and may write what is in it, also what was read-only."""
    sha256 = put(store, b"a" * 950)
    for name in ("model", "next"):
        store.copy(sha256, str(tmp_path / name))
        (tmp_path / name).chmod(0o600)
        with open(str(tmp_path / name), "ab") as stream:
            stream.write(b"more")
        (tmp_path / name).chmod(0)
    assert store.read(sha256, 0, 2000) == (b"a" * 950, 950)


def test_a_blob_takes_the_place_of_a_link_to_nowhere_and_is_not_written_through_it(store, tmp_path):
    """A measured model may leave one before the job is tried again."""
    sha256 = put(store, b"a" * 950)
    (tmp_path / "model").symlink_to(tmp_path / "outside")
    store.copy(sha256, str(tmp_path / "model"))
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "model").read_bytes() == b"a" * 950


def test_a_copy_evicts_what_it_takes_the_room_of(store, tmp_path, monkeypatch):
    old, needed = put(store, b"a" * 900), put(store, b"b" * 900)
    free = [LIMITS.reserve_bytes + 850]
    monkeypatch.setattr(store_module, "_free_bytes", lambda path: free[0])
    store.copy(needed, str(tmp_path / "model"))
    assert (store.has(old), store.has(needed)) == (False, True)
    assert reason_of(store.copy, needed, str(tmp_path / "model")) == "no_space"


@pytest.mark.parametrize("content", [b"b" * 100, b"a" * 101])
def test_a_blob_that_was_damaged_is_received_again(store, tmp_path, content):
    sha256 = put(store, b"a" * 100)
    path = tmp_path / "blobs" / sha256
    path.chmod(0o644)
    path.write_bytes(content)
    if len(content) == 100:
        assert store.drop_damaged(sha256)
    assert store.prepare(sha256, 100) == (0, False)
    put(store, b"a" * 100)
    assert (store.drop_damaged(sha256), store.drop_damaged("0" * 64)) == (False, False)
    assert store.read(sha256, 0, 200) == (b"a" * 100, 100)


def test_an_upload_continues_after_a_restart(store, tmp_path):
    content = bytes(range(200))
    sha256 = hashlib.sha256(content).hexdigest()
    store.append(sha256, 0, 200, content[:120])
    again = BlobStore(str(tmp_path), LIMITS)
    assert again.prepare(sha256, 200) == (120, False)
    assert again.append(sha256, 120, 200, content[120:]).complete


def test_an_upload_whose_last_byte_arrived_before_a_restart_is_complete(store, tmp_path, monkeypatch):
    sha256 = hashlib.sha256(b"a" * 200).hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "_finish", lambda self, sha256, total: (total, True))  # the agent is killed here
        store.append(sha256, 0, 200, b"a" * 200)
    again = BlobStore(str(tmp_path), LIMITS)
    assert not again.has(sha256)
    assert again.prepare(sha256, 200) == (200, True)
    assert again.has(sha256)


def test_a_part_that_is_longer_than_the_file_is_sent_again(store):
    sha256 = hashlib.sha256(b"a" * 200).hexdigest()
    store.append(sha256, 0, 500, b"b" * 300)
    assert store.prepare(sha256, 200) == (0, False)
    assert put(store, b"a" * 200) == sha256


def test_a_late_chunk_at_an_old_offset_is_refused(store):
    content = b"b" * 300
    sha256 = hashlib.sha256(content).hexdigest()
    store.append(sha256, 0, 300, content[:100])
    store.append(sha256, 100, 300, content[:100])
    with pytest.raises(TransferFailed) as caught:
        store.append(sha256, 100, 300, content[:100])
    assert caught.value.details == {"reason": "offset_mismatch", "offset": 200}
    assert caught.value.http_status == 409


def test_an_upload_with_a_wrong_digest_is_removed(store):
    sha256 = hashlib.sha256(b"right").hexdigest()
    assert reason_of(store.append, sha256, 0, 5, b"wrong") == "digest_mismatch"
    with pytest.raises(NotFound):
        store.progress(sha256)


def test_a_chunk_beyond_the_announced_size_is_refused(store):
    with pytest.raises(InvalidRequest, match="exceeds the announced 5 bytes"):
        store.append("ab" * 32, 0, 5, b"123456")


def test_a_too_large_file_is_refused_before_the_upload(store):
    assert reason_of(store.prepare, "ab" * 32, 1 << 40) == "too_large"


def test_the_least_recently_used_unneeded_blob_is_evicted(tmp_path):
    needed = set()
    store = BlobStore(str(tmp_path), LIMITS, lambda: needed)
    first, second = put(store, b"1" * 900), put(store, b"2" * 900)
    needed.add(first)
    os.utime(str(tmp_path / "blobs" / first), (0, 0))
    third = put(store, b"3" * 900)
    assert [store.has(sha256) for sha256 in (first, second, third)] == [True, False, True]
    needed.update((third,))
    assert reason_of(store.prepare, "ab" * 32, 900) == "no_space"


def test_files_of_one_job_that_do_not_fit_together_are_refused(tmp_path, monkeypatch):
    """They would evict each other for ever."""
    needed = set()
    store = BlobStore(str(tmp_path), LIMITS, lambda: needed)
    model, other = put(store, b"m" * 900), put(store, b"o" * 900)
    sizes = {model: 900, "ab" * 32: 1000}
    store.refuse_unfit(sizes)
    assert reason_of(store.refuse_unfit, dict(sizes, **{"cd" * 32: 601})) == "too_large", "more than the quota"
    needed.add(model)
    store.refuse_unfit(sizes)
    needed.add(other)
    assert reason_of(store.refuse_unfit, sizes) == "no_space", "until the job ends that needs the other model"
    needed.clear()
    monkeypatch.setattr(store_module, "_free_bytes", lambda _: 99)
    assert reason_of(store.refuse_unfit, sizes) == "no_space", "the disk is smaller than the quota"


def test_only_what_a_job_needs_is_kept_when_the_rest_is_dropped(store, tmp_path):
    needed, model, part = put(store, b"a" * 100), put(store, b"b" * 100), hashlib.sha256(b"c" * 200).hexdigest()
    store.append(part, 0, 200, b"c" * 100)
    store.referenced = lambda: {needed}
    store.drop_unneeded()
    assert [store.has(needed), store.has(model)] == [True, False]
    assert os.listdir(str(tmp_path / "partial")) == [part]
    store.drop_unfinished()
    assert os.listdir(str(tmp_path / "partial")) == []


def test_the_reserve_of_the_disk_is_kept(store, monkeypatch):
    limits = LIMITS._replace(reserve_bytes=500)
    store.limits = limits
    monkeypatch.setattr(store_module, "_free_bytes", lambda path: 600)
    assert reason_of(store.prepare, "ab" * 32, 200) == "no_space"
    assert store.problem() is None
    monkeypatch.setattr(store_module, "_free_bytes", lambda path: 400)
    assert "the reserve of 500" in store.problem()


def test_a_full_disk_is_no_space(store, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    assert reason_of(store.append, "ab" * 32, 0, 5, b"12345") == "no_space"


def test_a_blob_damaged_on_the_disk_is_missing(store, tmp_path):
    sha256 = put(store, b"a" * 100)
    path = tmp_path / "blobs" / sha256
    path.chmod(0o644)
    path.write_bytes(b"b" * 100)
    with pytest.raises(ArtifactMissing, match="damaged"):
        store.copy(sha256, str(tmp_path / "model"))
    assert not store.has(sha256)


def test_an_adopted_file_is_read_in_pieces_and_evicted_like_a_blob(store, tmp_path):
    old = put(store, b"a" * 900)
    (tmp_path / "made").write_bytes(b"logits" * 200)
    digest = store.adopt(str(tmp_path / "made"))
    assert digest == hashlib.sha256(b"logits" * 200).hexdigest()
    assert not (tmp_path / "made").exists()
    assert store.read(digest, 1190, 100) == (b"gitslogits", 1200)
    assert store.read(digest, 5000, 100) == (b"", 1200)
    os.utime(str(tmp_path / "blobs" / digest), (1, 1))
    put(store, b"b" * 900)
    assert store.has(old)
    with pytest.raises(NotFound):
        store.read(digest, 0, 1)
    store.referenced = lambda: {old}
    (tmp_path / "made").write_bytes(b"l" * 2000)
    assert reason_of(store.adopt, str(tmp_path / "made")) == "no_space"


def test_the_parts_of_one_result_are_not_evicted_for_each_other(tmp_path):
    store = BlobStore(str(tmp_path), LIMITS)
    made = tmp_path / "made"
    digests = []
    for content in (b"first", b"second"):
        made.write_bytes(content * 200)
        digests.append(store.adopt(str(made), frozenset(digests)))
    made.write_bytes(b"third" * 200)
    assert reason_of(store.adopt, str(made), frozenset(digests)) == "no_space"
    assert all(store.has(digest) for digest in digests)


def test_uses_that_may_disturb_a_measurement_are_counted(store):
    assert store.uses == 0
    sha256 = put(store, b"a" * 100)
    store.read(sha256, 0, 10)
    store.path(sha256)
    assert store.uses == 3
    store.has(sha256)
    store.progress(sha256)
    assert store.uses == 3


def test_the_quota_holds_if_a_later_chunk_announces_a_larger_size(tmp_path):
    needed = set()
    store = BlobStore(str(tmp_path), LIMITS, lambda: needed)
    needed.update(put(store, letter * 1000) for letter in (b"a", b"b"))
    store.append("00" * 32, 0, 200, b"c" * 100)
    assert reason_of(store.append, "00" * 32, 100, 900, b"c" * 800) == "no_space"


def begin(store, number):
    sha256 = f"{number:064x}"
    store.append(sha256, 0, 100, b"x")
    return sha256


def test_an_upload_that_is_announced_and_not_sent_leaves_no_file(store, tmp_path):
    for number in range(1000):
        store.prepare(f"{number:064x}", 100)
        with pytest.raises(InvalidRequest, match="at least one byte"):
            store.append(f"{number:064x}", 0, 100, b"")
    assert os.listdir(str(tmp_path / "partial")) == []


def test_the_number_of_unfinished_uploads_is_limited_and_the_oldest_is_removed(store, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOADS_MAX", 3)
    begun = []
    for number in range(4):
        begun.append(begin(store, number))
        clock.now_s += 1.0
    store.append(begun[0], 1, 100, b"x")  # the first upload continues
    newest = "f" * 64
    store.append(newest, 0, 100, b"x")
    assert sorted(os.listdir(str(tmp_path / "partial"))) == sorted([begun[0], begun[2], begun[3], newest])


def test_two_uploads_that_do_not_fit_together_complete_one_after_the_other(tmp_path):
    """Without the rule for active uploads each evicts the other, and neither completes."""
    store = BlobStore(str(tmp_path), LIMITS._replace(quota_bytes=1000))
    contents = {hashlib.sha256(content).hexdigest(): content for content in (b"a" * 800, b"b" * 800)}
    offsets = dict.fromkeys(contents, 0)
    arrived = []
    for sha256 in list(contents) * 100:
        offset = offsets[sha256]
        if sha256 in arrived:
            continue
        try:
            progress = store.append(sha256, offset, 800, contents[sha256][offset : offset + 50])
        except TransferFailed as error:
            offsets[sha256] = error.details.get("offset", offset)
        else:
            offsets[sha256] = progress.offset
            arrived += [sha256] if progress.complete else []
    assert sorted(arrived) == sorted(contents)


def test_an_inactive_upload_is_evicted(tmp_path, clock):
    store = BlobStore(str(tmp_path), LIMITS._replace(quota_bytes=1000), clock=clock)
    slow = hashlib.sha256(b"a" * 800).hexdigest()
    store.append(slow, 0, 800, b"a" * 700)
    assert reason_of(put, store, b"b" * 400) == "no_space"
    clock.now_s += uploads.ACTIVE_S
    assert store.has(put(store, b"b" * 400))


def test_an_abandoned_upload_is_removed(store, clock):
    old = begin(store, 1)
    clock.now_s += uploads.UPLOAD_MAX_AGE_S
    young = begin(store, 2)
    clock.now_s += 1.0
    put(store, b"another")
    with pytest.raises(NotFound):
        store.progress(old)
    assert store.progress(young).offset == 1


def test_the_number_of_files_is_limited(store, monkeypatch):
    monkeypatch.setattr(store_module, "FILES_MAX", 5)
    needed = put(store, b"needed by a job")
    store.referenced = lambda: {needed}
    for number in range(20):
        put(store, b"%d" % number)
    assert store.has(needed)
    assert len(store._files()) <= 6


def test_a_jump_of_the_wall_clock_removes_no_upload(store, tmp_path):
    """The clock of a board without a battery starts in 1970 and is set later."""
    begun = begin(store, 1)
    os.utime(str(tmp_path / "partial" / begun), (60, 60))
    put(store, b"another")
    assert store.progress(begun).offset == 1
    assert store._uploads.ahead_of("0" * 64, 0) == {begun}


def test_the_age_of_an_upload_counts_from_the_restart(store, clock, tmp_path):
    begun = begin(store, 1)
    clock.now_s = 0.0  # another boot
    later = BlobStore(str(tmp_path), LIMITS, clock=clock)
    put(later, b"another")
    assert later.progress(begun).offset == 1
    clock.now_s = uploads.UPLOAD_MAX_AGE_S + 1.0
    put(later, b"a third")
    with pytest.raises(NotFound):
        later.progress(begun)


def test_a_file_that_is_on_the_disk_needs_no_further_room_there(store, tmp_path, monkeypatch):
    path = tmp_path / "logits"
    path.write_bytes(b"a" * 600)
    monkeypatch.setattr(store_module, "_free_bytes", lambda path: 100)
    assert store.has(store.adopt(str(path)))
