"""Decoded images on disk: a file is complete or missing, is decoded once, and is never held in memory as a whole."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import PYTHON_PATH
from vitsearch.data import DataSpec, load, store
from vitsearch.errors import DataError

COUNT, SIDE = 5, 4


def wanted(*names: str) -> dict[str, store.ArrayRequest]:
    return {
        name: store.ArrayRequest((COUNT, SIDE, SIDE, 3), [f"{name}{row}" for row in range(COUNT)]) for name in names
    }


def counted(names: frozenset[str]):
    """Fill row `i` of every array with `i`."""
    for row in range(COUNT):
        for name in sorted(names):
            yield name, np.full((SIDE, SIDE, 3), row, np.uint8)


def never(names: frozenset[str]):
    raise AssertionError(f"{names} are decoded again")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


def test_arrays_are_written_in_order_and_mapped_read_only(tmp_path):
    first = store.stored(wanted("a", "b"), counted, tmp_path)
    assert list(first) == ["a", "b"]
    for images in first.values():
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert images[:, 0, 0, 0].tolist() == list(range(COUNT))
    again = store.stored(wanted("a", "b"), never, tmp_path)
    assert (again["a"] == first["a"]).all()


def test_only_missing_arrays_are_decoded(tmp_path):
    store.stored(wanted("a"), counted, tmp_path)
    decoded = []

    def rows(names):
        decoded.append(names)
        yield from counted(names)

    assert set(store.stored(wanted("a", "b"), rows, tmp_path)) == {"a", "b"}
    assert decoded == [{"b"}]


def test_equal_arrays_share_one_file(tmp_path):
    same = wanted("a")["a"]
    arrays = store.stored({"train": same, "validation": same}, counted, tmp_path)
    assert (arrays["train"] == arrays["validation"]).all()
    assert len(list(tmp_path.glob("images-*.npy"))) == 1


def test_without_a_cache_folder_images_are_in_memory_up_to_a_limit(monkeypatch):
    images = store.stored(wanted("a"), counted, None)["a"]
    assert images[:, 0, 0, 0].tolist() == list(range(COUNT))
    monkeypatch.setattr(store, "MOST_IN_MEMORY", 100)
    with pytest.raises(DataError, match="no cache folder was given"):
        store.stored(wanted("a"), never, None)


def test_an_error_while_decoding_leaves_no_file(tmp_path):
    def rows(names):
        yield from list(counted(names))[:2]
        raise DataError("image 2 cannot be read")

    with pytest.raises(DataError, match="image 2"):
        store.stored(wanted("a"), rows, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["decoding.lock"]


def test_images_that_disappear_while_decoding_are_reported(tmp_path):
    with pytest.raises(DataError, match="2 images fewer than before"):
        store.stored(wanted("a"), lambda names: list(counted(names))[:3], tmp_path)
    assert not leftovers(tmp_path)


def test_a_truncated_file_is_decoded_again(tmp_path):
    store.stored(wanted("a"), counted, tmp_path)
    (file,) = tmp_path.glob("images-*.npy")
    file.write_bytes(file.read_bytes()[:-7])
    assert store.stored(wanted("a"), counted, tmp_path)["a"].shape == (COUNT, SIDE, SIDE, 3)


def test_a_full_disk_is_reported_before_and_while_decoding(tmp_path, monkeypatch):
    def rows(names):
        yield from list(counted(names))[:2]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="the disk is full"):
        store.stored(wanted("a"), rows, tmp_path)
    assert not leftovers(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=200)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"take 0\.00 GB, the disk has 0\.00 GB left"):
        store.stored(wanted("a"), never, tmp_path)


DECODE = """
import sys, time, pathlib
import numpy as np
from vitsearch.data import store

def rows(names):
    print("decoding", flush=True)
    for row in range(5):
        time.sleep(float(sys.argv[2]))
        yield "a", np.full((4, 4, 3), row, np.uint8)

wanted = {"a": store.ArrayRequest((5, 4, 4, 3), [f"a{row}" for row in range(5)])}
print(store.stored(wanted, rows, pathlib.Path(sys.argv[1]))["a"][:, 0, 0, 0].tolist())
"""


def process(folder: Path, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DECODE, str(folder), str(pause_s)]
    return subprocess.Popen(command, env={"PYTHONPATH": PYTHON_PATH}, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_one_decodes_and_the_other_waits(tmp_path):
    both = [process(tmp_path, 0.2) for _ in range(2)]
    printed = [each.communicate(timeout=60)[0].splitlines() for each in both]
    assert sorted(map(len, printed)) == [1, 2]
    assert all(lines[-1] == "[0, 1, 2, 3, 4]" for lines in printed)


def test_the_leftovers_of_a_killed_process_are_not_used(tmp_path):
    killed = process(tmp_path, 30)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "decoding\n"
    deadline = time.monotonic() + 30
    while not leftovers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(leftovers(tmp_path)) == 1
    assert not list(tmp_path.glob("images-*.npy"))
    assert store.stored(wanted("a"), counted, tmp_path)["a"].shape[0] == COUNT
    assert not leftovers(tmp_path)


# The child's own high-water mark: its `ru_maxrss` begins at that of the process that has forked it.
PEAK = """
import sys, pathlib
from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, load
spec = DataSpec("folder", root=sys.argv[1], image_size=ImageSize.square(256))
data = load(spec, pathlib.Path(sys.argv[2]))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(len(data.train) + len(data.validation), int(status["VmHWM"].split()[0]) * 1024)
"""


def peak_bytes(root: Path, cache: Path) -> int:
    command = [sys.executable, "-c", PEAK, str(root), str(cache)]
    done = subprocess.run(command, env={"PYTHONPATH": PYTHON_PATH}, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.long
def test_decoding_uses_less_memory_than_it_writes(tmp_path):
    for count in (8, 1000):
        for number in range(count):
            path = tmp_path / f"{count}" / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number % 256, number // 256, 0)).save(path)
    few = peak_bytes(tmp_path / "8", tmp_path / "cache_8")
    many = peak_bytes(tmp_path / "1000", tmp_path / "cache_1000")
    written = sum(path.stat().st_size for path in (tmp_path / "cache_1000").glob("images-*.npy"))
    assert written > 1000 * 256 * 256 * 3
    assert many - few < 0.25 * written


def test_a_damaged_listing_is_read_again(tmp_path):
    for number in range(6):
        path = tmp_path / "in" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    first = load(DataSpec("folder", root=str(tmp_path / "in")), tmp_path / "cache")
    (listing,) = (tmp_path / "cache").glob("listing-*.json")
    for content in ("{", "[]", json.dumps({"a/0.png": [1, 2]}), json.dumps({"a/0.png": 7})):
        listing.write_text(content)
        assert load(DataSpec("folder", root=str(tmp_path / "in")), tmp_path / "cache").identity == first.identity
