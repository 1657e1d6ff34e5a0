"""The start and the end of a run's Ray: one line where it fails, one more attempt, and nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from support import PYTHON_PATH
from vitsearch.errors import ResourceError, WorkersLost
from vitsearch.workers.cluster import own_ray
from vitsearch.workers.cluster.resources import Resources
from vitsearch.workers.process_tree import PROC, descendants
from vitsearch.workers.ray_runner import RayRunner

ray = pytest.importorskip("ray")
ONE = Resources(trainers=1, cpus=1, gpus=0)


@pytest.fixture
def place(tmp_path_factory, monkeypatch):
    """A folder with a short path in which Ray's files are."""
    with tempfile.TemporaryDirectory(prefix="p-", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def folders(place):
    return sorted(path.name for path in place.iterdir())


@pytest.fixture
def failing(monkeypatch):
    """`ray.init` fails as given, so many times: what a machine under load does."""

    def make(how, times):
        starts = []

        def init(*arguments, **keywords):
            starts.append(keywords)
            os.write(2, b"[2026-11-29 12:00:00,000 E 1 2] gcs_rpc_client.h:179: Failed to connect to GCS\n")
            if len(starts) <= times:
                how()

        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(ray, "nodes", list)
        monkeypatch.setattr(ray, "cluster_resources", dict)
        return starts

    return make


def _refuse():
    raise RuntimeError(
        "The current node timed out during startup.\nThis could happen because some of the raylet failed"
    )


def test_a_start_that_fails_is_tried_once_more(place, failing, caplog):
    caplog.set_level("WARNING")  # whatever a library of another test has made of the root logger
    starts = failing(_refuse, 1)
    own_ray.OwnRay.start(ray, {}).close()
    assert len(starts) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "Ray did not start on this machine: The current node timed out during startup; trying once more"
    ]


def test_a_start_that_fails_twice_is_one_line(place, failing, tmp_path, capfd):
    starts = failing(_refuse, 9)
    with pytest.raises(WorkersLost) as error:
        RayRunner(ONE, tmp_path)
    assert [Path(start["_temp_dir"]).parent.parent for start in starts] == [place, place]
    assert str(error.value) == (
        "Ray did not start on this machine: The current node timed out during startup; it was tried twice; "
        "run the same command again to resume"
    )
    assert "gcs_rpc_client" not in "".join(capfd.readouterr())
    assert folders(place) == []


def test_a_start_that_takes_too_long_is_ended(place, failing, tmp_path, monkeypatch):
    monkeypatch.setattr(own_ray, "START_S", 0.2)
    starts = failing(lambda: time.sleep(60), 9)
    with pytest.raises(
        WorkersLost, match=r"^Ray did not start on this machine: it took more than 0\.2 s; it was tried"
    ):
        RayRunner(ONE, tmp_path)
    assert len(starts) == 2


def test_python_writes_to_stderr_during_a_start(place, failing, capfd):
    script = "import sys; print('a note', file=sys.stderr)"

    def note():
        exec(script)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
        failing(note, 1)
        own_ray.OwnRay.start(ray, {}).close()
        sys.stderr.close()
    assert capfd.readouterr().err == "a note\n"


@pytest.mark.long
def test_a_server_of_ray_that_ends_at_once_is_one_line(place, tmp_path):
    """The real Ray, whose node does not start: `/bin/false` stands for its program."""
    script = f"""
import ray._private.services as services
from pathlib import Path
from vitsearch.errors import WorkersLost
from vitsearch.workers.ray_runner import RayRunner
from vitsearch.workers.cluster import own_ray
from vitsearch.workers.cluster.resources import Resources
services.GCS_SERVER_EXECUTABLE = "/bin/false"
own_ray.START_S = 8.0
try:
    RayRunner(Resources(1, 1, 0), Path({str(tmp_path)!r}))
except WorkersLost as error:
    print(error)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=_environment())
    assert process.returncode == 0
    assert process.stdout.startswith("Ray did not start on this machine: ")
    assert process.stdout.count("\n") == 1
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stderr.endswith("; trying once more\n")
    assert folders(place) == []


def _environment():
    return os.environ | {"PYTHONPATH": PYTHON_PATH}


@pytest.mark.long
def test_sigterm_prints_no_stack_of_ray_and_a_worker_looks_for_modules_in_no_folder_of_the_driver(place, tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(tmp_path)!r})
sys.argv = [{str(tmp_path / "script.py")!r}]
from pathlib import Path
from vitsearch.workers.cluster.resources import Resources
from vitsearch.workers.ray_runner import RayRunner
import ray
runner = RayRunner(Resources(1, 1, 0), Path({str(tmp_path)!r}))

@ray.remote
def paths():
    import sys
    return sys.path

print({str(tmp_path)!r} in ray.get(paths.remote()), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    (tmp_path / "script.py").touch()
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=_environment())
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "False\n", "")


@pytest.mark.long
@pytest.mark.skipif(not PROC.exists(), reason="needs /proc")
def test_nothing_is_left_at_the_end(place, tmp_path):
    before = descendants(os.getpid())
    runner = RayRunner(ONE, tmp_path)
    assert len(folders(place)) == 1
    runner.close()
    assert folders(place) == []
    assert descendants(os.getpid()) <= before


def test_the_next_start_removes_what_a_killed_one_has_left(place):
    script = (
        "import time; from vitsearch.workers.cluster.own_ray import _new_folder; "
        "found = _new_folder(); print(found[0], flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=_environment()) as run:
        left = Path(run.stdout.readline().strip())
        (left / "r").mkdir()
        own_ray._remove_left(place)
        assert left.exists(), "its process runs"
        run.send_signal(signal.SIGKILL)
    own_ray._remove_left(place)
    assert folders(place) == []


def test_folders_of_others_stay(place, tmp_path):
    def left(name, is_locked=True):
        folder = place / f"{own_ray.PREFIX}{name}"
        folder.mkdir()
        if is_locked:
            (folder / own_ray.LOCK).touch()
        return folder

    target = tmp_path / "target"
    target.mkdir()
    (target / own_ray.LOCK).touch()
    (place / f"{own_ray.PREFIX}link").symlink_to(target)
    left("without-a-lock", is_locked=False)
    (left("with-a-link", is_locked=False) / own_ray.LOCK).symlink_to(target / own_ray.LOCK)
    os.mkfifo(left("with-a-fifo", is_locked=False) / own_ray.LOCK)
    expected = {"link", "without-a-lock", "with-a-link", "with-a-fifo"}
    if os.geteuid() == 0:
        os.chown(left("of-another-user"), 65534, 65534)
        expected.add("of-another-user")
    left("of-a-dead-run")
    own_ray._remove_left(place)
    assert {path.name.removeprefix(own_ray.PREFIX) for path in place.iterdir()} == expected
    assert (target / own_ray.LOCK).exists()


def test_a_place_with_a_long_path_is_not_used(monkeypatch, tmp_path):
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    folder, lock = own_ray._new_folder()
    own_ray._remove(folder)
    lock.close()
    assert deep not in folder.parents


def test_without_a_place_for_its_sockets_it_says_so(monkeypatch):
    monkeypatch.setattr(own_ray, "LONGEST", "x" * 200)
    with pytest.raises(ResourceError, match="folder for its sockets"):
        own_ray._new_folder()


def test_a_cluster_that_cannot_be_joined_is_one_line_and_nothing_is_started(place, tmp_path, monkeypatch):
    calls = []

    def init(**arguments):
        calls.append(arguments)
        raise ConnectionError("Failed to connect to Ray cluster at head:6379\n\x1b[31mlong paragraph")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("vitsearch.workers.ray_runner.require_cluster", lambda address: None)
    with pytest.raises(WorkersLost) as error:
        RayRunner(ONE, tmp_path, "head:6379")
    assert str(error.value) == (
        "the Ray cluster at head:6379 cannot be joined: Failed to connect to Ray cluster at head:6379"
    )
    assert [call["address"] for call in calls] == ["head:6379"]
    assert not any("_temp_dir" in call for call in calls)
    assert folders(place) == []
