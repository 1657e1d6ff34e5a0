"""Real children of a real agent, with a runtime that does what a crafted model could do."""

import json
import os
import socket
import subprocess
import sys
import tempfile

import pytest

from vitsearch_agent.base import processes, sandbox, seccomp
from vitsearch_agent.cli import app
from vitsearch_agent.errors import MeasurementFailed

SOMEBODY = 12345


def kernel_has_landlock():
    try:
        return sandbox.landlock_abi() > 0
    except OSError:
        return False


needs_landlock = pytest.mark.skipif(not kernel_has_landlock(), reason="this kernel has no Landlock")


@pytest.fixture(params=["reach", "reach_when_forked"])
def reached(request, faulty_agent, faulty_client, blob, tiny_protocol):
    """reached(name=[kind of access, path or port], ...) -> the names of what a measured model could do."""

    protocol = tiny_protocol._replace(processes=2, max_processes=2)

    def reached(**wanted):
        with pytest.raises(MeasurementFailed) as caught:
            faulty_client.measure(blob, "faults", {"fault": request.param, "gate": json.dumps(wanted)}, protocol)
        assert "reached: " in str(caught.value)
        return set(str(caught.value).partition("reached: ")[2].split())

    return reached


@pytest.fixture
def holds(faulty_client):
    """Skip the test if the device says that a restriction does not hold."""

    def holds(name):
        (restriction,) = [each for each in faulty_client.device().restrictions if each.name == name]
        if not restriction.holds:
            pytest.skip(restriction.detail)
        return restriction.detail

    return holds


@pytest.fixture
def temporary_file():
    """A file in the folder for the temporary files of everybody."""
    with tempfile.NamedTemporaryFile(prefix="vitsearch-test-") as file:
        yield file.name


def test_a_model_cannot_read_the_token_nor_change_queue_and_configuration(reached, holds, tmp_path, temporary_file):
    assert holds("files").startswith("Landlock ABI ")
    state = tmp_path / "state"
    (state / "config.json").write_text("{}")
    (state / "work" / "other").mkdir()
    (state / "work" / "other" / "answer.json").write_text("{}")
    assert reached(
        token=["r", str(state / "token")],
        queue=["r+", str(state / "jobs.sqlite")],
        configuration=["r", str(state / "config.json")],
        new_configuration=["w", str(state / "config.json")],
        another_jobs_answer=["r", str(state / "work" / "other" / "answer.json")],
        program=["a", __file__],
        file_of_others=["a", temporary_file],
        own_folder=["w", "scratch"],
        own_temporary_folder=["temporary", ""],
        own_model=["r", "model.onnx"],
        packages=["r", os.__file__],
        devices=["w", os.devnull],
        names=["list", str(tmp_path)],
        programs=["run", ""],
    ) == {"own_folder", "own_temporary_folder", "own_model", "packages", "devices", "names", "programs"}


@pytest.fixture
def places(tmp_path):
    """places(...) -> {name: path of a file that does not exist in a folder}; what is there afterwards is removed."""
    paths = {}

    def places(**folders):
        for name, folder in folders.items():
            if os.path.isdir(folder):
                paths[name] = os.path.join(folder, f"vitsearch-test-{os.getpid()}")
        return dict(paths)

    yield places
    for path in paths.values():
        if os.path.exists(path):
            os.remove(path)


def test_a_model_makes_files_in_its_own_folder_only(reached, holds, tmp_path, places):
    holds("files")
    for folder in ("state/work/other", "state/cache/another_runtime"):
        (tmp_path / folder).mkdir(parents=True)
    paths = places(
        temporary="/tmp",
        kept_temporary="/var/tmp",
        shared_memory="/dev/shm",
        devices="/dev",
        queues="/dev/mqueue",
        home=os.path.expanduser("~"),
        state=str(tmp_path / "state"),
        another_job=str(tmp_path / "state" / "work" / "other"),
        cache_of_another_runtime=str(tmp_path / "state" / "cache" / "another_runtime"),
        checkout=os.path.dirname(__file__),
        package=os.path.dirname(os.path.dirname(sandbox.__file__)),
        beside_the_state=str(tmp_path),
    )
    wanted = {name: ["w", path] for name, path in paths.items()}
    own = {"own_folder": ["w", "scratch"], "own_temporary_folder": ["temporary", ""]}
    assert reached(**wanted, **own) == set(own)
    assert not [path for path in paths.values() if os.path.exists(path)]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system has no /dev/shm")
def test_a_model_uses_devices_that_keep_nothing_and_not_disks_and_the_memory_of_others(reached, holds):
    holds("files")
    with tempfile.NamedTemporaryFile(prefix="vitsearch-test-", dir="/dev/shm") as shared:
        shared.write(b"ours")
        shared.flush()
        wanted = {name: ["w", f"/dev/{name}"] for name in ("null", "zero", "full", "urandom")}
        others = {kind: [kind, shared.name] for kind in ("r", "a", "w")}
        disk = {"disk " + kind: [kind, "/dev/loop0"] for kind in ("r", "r+")}
        names = reached(**others, **disk, **wanted)
        assert names == set(wanted)
        shared.seek(0)
        assert shared.read() == b"ours"


@pytest.fixture
def no_remains(tmp_path):
    """What a failed test leaves is too deep for pytest."""
    yield
    subprocess.run(["rm", "-rf", str(tmp_path / "state" / "work")], check=True)


@pytest.mark.long
def test_a_model_that_makes_very_deep_folders_leaves_nothing_and_the_agent_goes_on(
    no_remains, faulty_client, blob, tiny_protocol, tmp_path, until
):
    for fault in ("deep", "none"):
        assert faulty_client.measure(blob, "faults", {"fault": fault}, tiny_protocol).latency_ms.p50 >= 0
    work = tmp_path / "state" / "work"
    until(lambda: not [path for path in work.iterdir() if path.is_dir()], "the folders of the jobs to go")


def test_a_model_cannot_reach_the_agent_over_the_network(reached, holds, faulty_agent):
    holds("network")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        can_send = holds("network") != "network namespace"
        names = reached(
            agent=["connect", int(faulty_agent.url.rpartition(":")[2])], udp=["send", listener.getsockname()[1]]
        )
    assert names == ({"udp"} if can_send else set())


@needs_landlock
@pytest.mark.skipif(not kernel_has_landlock() or sandbox.landlock_abi() < sandbox.SIGNALS_ABI, reason="needs ABI 6")
def test_a_model_cannot_signal_the_agent(reached, faulty_agent):
    assert reached(agent=["kill", faulty_agent.pid]) == set()


def test_the_configuration_can_allow_a_runtime_the_network_and_a_folder(
    faulty_environment, serve_agent, blob, tiny_protocol, tmp_path
):
    kept = tmp_path / "kept"
    kept.mkdir()
    served = serve_agent(config={"runtimes": {"faults": {"network": True, "writable": [str(kept)]}}})
    wanted = {"agent": ["connect", served.port], "folder": ["w", str(kept / "x")], "token": ["r", served.token_file]}
    with served.client(owner="study") as client, pytest.raises(MeasurementFailed) as caught:
        client.measure(blob, "faults", {"fault": "reach", "gate": json.dumps(wanted)}, tiny_protocol)
    assert {"agent", "folder"} <= set(str(caught.value).partition("reached: ")[2].split())


OLD_KERNEL = """
import errno, sys
from vitsearch_agent.base import processes, seccomp
from vitsearch_agent.cli import app

seccomp._REFUSED = {errno.ENOSYS: "seccomp 317 277  landlock_create_ruleset 444 444  unshare 272 97"}
seccomp._judgements = lambda own, signals: {}
processes.forbid_new_privileges()
seccomp.refuse_calls(signals=False)
sys.exit(app.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.uname().machine not in seccomp._PROCESSORS, reason="needs seccomp to hide what a kernel has")
def test_a_kernel_without_landlock_seccomp_and_namespaces_measures_and_says_it(
    serve_agent, blob, tiny_protocol, tmp_path, capsys
):
    script = tmp_path / "old_kernel.py"
    script.write_text(OLD_KERNEL)
    served = serve_agent(program=[str(script)])
    with served.client(owner="study") as client:
        assert client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).latency_ms.n == 11
        missing = {each.name: each.detail for each in client.device().restrictions if not each.holds}
    missing.pop("user")
    assert missing == {
        "files": "no Landlock: Linux 5.13 or newer, built and started with it",
        "network": "no network namespace: Function not implemented",
        "processes": "no seccomp: Linux 3.17 or newer, built with it",
    }
    for detail in missing.values():
        assert detail in served.logged
    app.main(["status", "--state", served.state])
    printed = " ".join(capsys.readouterr().out.split())
    assert "processes NO no seccomp: Linux 3.17 or newer, built with it" in printed


LEAVE = """
import ctypes, os, signal
from vitsearch_agent.base import processes, sandbox, seccomp
from vitsearch_agent.cli import app
library = ctypes.CDLL(None)
os.setgroups([]), os.setgid(12345), os.setuid(12345)
library.prctl(4, 1, 0, 0, 0)  # a program that this user starts can be traced by it, and so write its own maps
processes.die_with_parent(os.getppid())
try:
    sandbox.leave_network()
except OSError as error:
    raise SystemExit(f"skip: {error}")
number = ctypes.c_int()
library.prctl(2, ctypes.byref(number), 0, 0, 0)
capabilities = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
print(os.geteuid(), os.getegid(), number.value == signal.SIGKILL, int(capabilities[0], 16))
print(sorted(line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_privileges_leaves_the_network_and_keeps_its_id_and_its_parent():
    """A change of credentials may make the kernel forget that the child shall die with its parent."""
    environment = processes.with_package_path(dict(os.environ))
    command = [sys.executable, "-c", LEAVE]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    if b"skip: " in done.stdout:
        pytest.skip(done.stdout.decode())
    assert done.stdout.decode().splitlines() == [f"{SOMEBODY} {SOMEBODY} True 0", "['lo']"]
