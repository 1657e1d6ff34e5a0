"""A Ray of a run: no other user can use it, and nothing of it is left."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vitsearch.workers.cluster import own_ray
from vitsearch.workers.cluster.resources import Resources
from vitsearch.workers.process_tree import PROC, descendants
from vitsearch.workers.ray_runner import RayRunner

needs_proc = pytest.mark.skipif(not PROC.exists(), reason="needs /proc")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a process of another user")
ONE = Resources(trainers=1, cpus=1, gpus=0)
ATTACK = """
import json, os, sys
address, tokens, folders = json.loads(sys.argv[1])
import ray, ray._raylet
from ray._private.ray_constants import KV_NAMESPACE_FUNCTION_TABLE as FUNCTIONS
os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = {"tokens": [], "folders": [], "functions": []}
for path in tokens:
    try:
        found["tokens"].append(open(path).read())
    except OSError:
        pass
for path in folders:
    try:
        found["folders"] += os.listdir(path)
    except OSError:
        pass
for token in ["", "0" * 64, *sys.argv[2:], *found["tokens"]]:
    mode = "token" if token else "disabled"
    os.environ["RAY_AUTH_MODE"] = mode
    os.environ["RAY_AUTH_TOKEN"] = token
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    try:
        gcs = ray._raylet.GcsClient(address=address)
        for key in gcs.internal_kv_keys(b"", FUNCTIONS, timeout=10):
            if key.startswith(b"RemoteFunction"):
                gcs.internal_kv_put(key, gcs.internal_kv_get(key, FUNCTIONS, timeout=10), True, FUNCTIONS, timeout=10)
                found["functions"].append(key.decode(errors="replace"))
    except Exception as error:
        print(mode, repr(error)[:300], file=sys.stderr)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def home():
    """A home folder that others may enter, as many are."""
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def runner(home):
    """A runner whose worker has run a stage, so that a function is in Ray's table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.delenv("RAY_AUTH_TOKEN", raising=False)
        umask = os.umask(0o027)
        try:
            runner = RayRunner(ONE, home / "logs")
        finally:
            os.umask(umask)
        try:
            _in_worker(runner, _nothing)
            yield runner
        finally:
            runner.close()


def _nothing(job, resources, log):
    return None, None


def _in_worker(runner, function):
    remote = runner._ray.remote(num_cpus=1, max_retries=0)(function)
    return runner._ray.get(remote.remote(None, ONE, runner._logs / "log"))


def _listening():
    """The addresses on which this process and those that it has started listen."""
    inodes = set()
    for pid in {os.getpid()} | descendants(os.getpid()):
        for descriptor in _entries(PROC / str(pid) / "fd"):
            try:
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    for family in ("tcp", "tcp6"):
        for line in (PROC / "net" / family).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                yield fields[1].partition(":")[0]


def _entries(folder):
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _session(runner):
    return Path(runner._ray._private.worker._global_node.get_session_dir_path())


@needs_proc
def test_its_servers_listen_on_loopback_alone(runner):
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    addresses = set(_listening())
    assert addresses
    assert addresses <= loopback


def test_no_token_is_written(runner, home):
    assert not (home / ".ray").exists()


def test_the_token_is_not_in_the_environment_of_the_driver_afterwards(runner):
    assert not {"RAY_AUTH_TOKEN", own_ray.UMASK} & os.environ.keys()


def _attack(runner, home, *tokens):
    address = runner._ray.get_runtime_context().gcs_address
    arguments = json.dumps([address, [str(home / ".ray" / "auth_token")], [str(_session(runner) / "logs")]])
    command = [sys.executable, "-c", ATTACK, arguments, *tokens]
    process = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@needs_root
def test_another_user_cannot_read_its_files_nor_replace_a_function(runner, home):
    assert _attack(runner, home) == {"tokens": [], "folders": [], "functions": []}


@needs_root
@needs_proc
def test_that_attack_succeeds_with_the_token(runner, home):
    tokens = {
        entry.partition("=")[2]
        for pid in descendants(os.getpid())
        for entry in _read(pid, "environ").split("\0")
        if entry.startswith("RAY_AUTH_TOKEN=")
    }
    assert _attack(runner, home, *tokens)["functions"]


def test_the_folder_is_for_this_user_alone(runner):
    for folder in _session(runner).parents:
        if folder.name.startswith(own_ray.PREFIX):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            return
    pytest.fail(f"{_session(runner)} is in no folder of our own")


@needs_proc
def test_its_processes_make_private_files(runner):
    umasks = set()
    for pid in descendants(os.getpid()):
        if str(_session(runner)) in _read(pid, "cmdline"):
            umasks |= {line.split()[1] for line in _read(pid, "status").splitlines() if line.startswith("Umask")}
    assert umasks == {"0077"}


def test_a_stage_writes_with_the_umask_of_the_user(runner):
    def stage(job, resources, log):
        import os

        from vitsearch.workers import ray_runner

        ray_runner.run_task = lambda job: os.umask(0)
        return ray_runner._run_task_on(job, resources, log)

    assert _in_worker(runner, stage) == 0o027


def _read(pid, name):
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""
