"""Which paths a child may use, computed over a described tree; and kernels that have no Landlock or no seccomp."""

import errno
import os
from collections import namedtuple

import pytest

from vitsearch_agent.base import sandbox, seccomp
from vitsearch_agent.measure.child import isolation, process_usage
from vitsearch_agent.measure.job_folder import Isolation

hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies

Entry = namedtuple("Entry", "name is_link")
Entry.is_symlink = lambda self: self.is_link


def tree(*paths, links=()):
    """A function like os.scandir over a tree with these files and links."""

    def scan(folder):
        inside = os.path.join(folder, "")
        names = {path[len(inside) :].split("/")[0] for path in (*paths, *links) if path.startswith(inside)}
        return [Entry(name, inside + name in links) for name in sorted(names)]

    return scan


BOARD = tree(
    "/etc/passwd",
    "/home/me/.bashrc",
    "/home/me/venv/bin/python",
    "/usr/lib/libc.so",
    "/var/lib/dpkg/status",
    "/var/lib/vitsearch/token",
    "/var/lib/vitsearch/venv/bin/python",
    "/var/log/syslog",
    links=("/bin", "/home/me/agent"),
)
STATE = "/var/lib/vitsearch"


def test_everything_beside_the_way_to_the_hidden_folder_is_allowed():
    assert list(isolation.visible_entries("/", [STATE], BOARD)) == [
        "/etc",
        "/home",
        "/usr",
        "/var/lib/dpkg",
        "/var/log",
    ]


def test_several_hidden_paths_are_left_out():
    paths = list(isolation.visible_entries("/", [STATE, "/etc/token", "/home/me/venv"], BOARD))
    assert paths == ["/etc/passwd", "/home/me/.bashrc", "/usr", "/var/lib/dpkg", "/var/log"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/usr", ["/usr"]),
        (STATE, []),
        (STATE + "/token", []),
        ("/var/lib", ["/var/lib/dpkg"]),
        (STATE + "2", [STATE + "2"]),
        ("/", ["/etc", "/home", "/usr", "/var/lib/dpkg", "/var/log"]),
    ],
)
def test_a_path_gives_itself_or_what_is_not_hidden_in_it(path, allowed):
    assert list(isolation.visible_entries(path, [STATE], BOARD)) == allowed


def test_links_are_left_out_because_they_may_lead_to_the_hidden_folder():
    assert list(isolation.visible_entries("/home/me", ["/home/me/venv/bin"], BOARD)) == ["/home/me/.bashrc"]


def test_an_interpreter_below_the_hidden_folder_is_readable_but_never_the_folder_itself():
    needed = [STATE, STATE + "/venv", "/usr/lib", "/"]
    paths = isolation.readable_paths([STATE], needed, BOARD)
    assert set(paths) == {"/etc", "/home", "/usr", "/var/lib/dpkg", "/var/log", STATE + "/venv"}


def test_of_a_folder_with_very_many_entries_only_the_needed_ones_are_allowed():
    many = [f"/data/{number}/x" for number in range(isolation.ENTRIES_MAX)]
    scan = tree(*many, "/data/agent/state/token", "/data/agent/venv/x")
    paths = isolation.readable_paths(["/data/agent/state"], ["/data/7"], scan)
    assert paths == ["/data/agent/venv", "/data/7"]


def test_a_folder_that_cannot_be_listed_allows_nothing():
    def scan(folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    assert list(isolation.visible_entries("/", [STATE], scan)) == []


NAMES = strategies.sampled_from("abc")
PATHS = strategies.lists(NAMES, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))


@hypothesis.given(files=strategies.lists(PATHS, max_size=12), hidden=strategies.lists(PATHS, min_size=1, max_size=3))
@hypothesis.settings(deadline=None)
def test_a_file_is_allowed_exactly_if_it_is_not_hidden(files, hidden):
    leaves = [path for path in files if not any(other.startswith(path + "/") for other in (*files, *hidden))]
    allowed = list(isolation.visible_entries("/", hidden, tree(*leaves, *hidden)))

    def below(path, folders):
        return any(path == folder or path.startswith(folder + "/") for folder in folders)

    for path in leaves:
        assert below(path, allowed) is not below(path, hidden)
    assert not any(below(path, allowed) for path in hidden)


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A job whose isolation runs in this process; what it would change of the process is recorded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sandbox, "leave_network", lambda: None)
    monkeypatch.setattr(sandbox, "system_call", refuse(errno.ENOSYS))
    monkeypatch.setattr(seccomp, "refuse_calls", lambda signals: None)
    monkeypatch.setattr(process_usage, "keep_reset", lambda: None)
    return {"isolation": Isolation((str(tmp_path / "state"),)).for_child((), network=False)}


def refuse(number):
    def call(*arguments):
        raise OSError(number, os.strerror(number))

    return call


def restrictions(job):
    return {restriction.name: (restriction.holds, restriction.detail) for restriction in isolation.enter(job)}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSYS, "no Landlock: Linux 5.13 or newer, built and started with it"),
        (errno.EOPNOTSUPP, "no Landlock: Linux 5.13 or newer, built and started with it"),
        (errno.EPERM, "no Landlock: Operation not permitted"),
    ],
)
def test_a_kernel_without_landlock_gives_a_reason_and_still_measures(job, monkeypatch, number, reason):
    monkeypatch.setattr(sandbox, "system_call", refuse(number))
    assert restrictions(job)["files"] == (False, reason)
    assert restrictions(job)["network"] == (True, "network namespace")


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (errno.ENOSYS, "no seccomp: Linux 3.17 or newer, built with it"),
        (errno.EINVAL, "no seccomp: Linux 3.17 or newer, built with it"),
        (errno.EACCES, "no seccomp: Permission denied"),
    ],
)
def test_a_kernel_without_seccomp_gives_a_reason_and_still_measures(job, monkeypatch, refusal, reason):
    monkeypatch.setattr(seccomp, "refuse_calls", refuse(refusal))
    assert restrictions(job)["processes"] == (False, reason)


def test_a_processor_whose_calls_are_not_known_is_named(job, monkeypatch):
    def refuse_calls(signals):
        raise OSError(errno.ENOSYS, "its system calls are not known for riscv64, 64 bits")

    monkeypatch.setattr(seccomp, "refuse_calls", refuse_calls)
    reason = "no seccomp: its system calls are not known for riscv64, 64 bits"
    assert restrictions(job)["processes"] == (False, reason)


@pytest.mark.parametrize(("abi", "signals"), [(5, True), (6, False)])
def test_signals_are_refused_where_landlock_does_not_keep_them_in(job, monkeypatch, abi, signals):
    refused = []
    monkeypatch.setattr(seccomp, "refuse_calls", lambda signals: refused.append(signals))
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: abi)
    monkeypatch.setattr(sandbox, "Ruleset", Recorded)
    assert restrictions(job)["processes"] == (True, "seccomp")
    assert refused == [signals]


class Recorded:
    """A ruleset that records what is allowed."""

    def __init__(self, abi, network):
        self.abi, self.network, self.rules = abi, network, {}
        Recorded.last = self

    def allow(self, path, access):
        self.rules[path] = self.rules.get(path, 0) | access

    def enforce(self):
        pass


@pytest.mark.parametrize(
    ("abi", "network"),
    [
        (3, (False, "no network namespace: Operation not permitted")),
        (4, (True, "Landlock denies TCP, not UDP (no network namespace: Operation not permitted)")),
    ],
)
def test_landlock_denies_tcp_where_no_namespace_can_be_made(job, monkeypatch, abi, network):
    monkeypatch.setattr(sandbox, "leave_network", refuse(errno.EPERM))
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: abi)
    monkeypatch.setattr(sandbox, "Ruleset", Recorded)
    assert restrictions(job)["network"] == network
    assert restrictions(job)["files"] == (True, f"Landlock ABI {abi}")


def test_a_child_may_change_its_folder_and_its_cache_but_not_the_programs(job, monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 7)
    monkeypatch.setattr(sandbox, "Ruleset", Recorded)
    cache, group = str(tmp_path / "state" / "cache"), "/sys/fs/cgroup/x"
    isolation.enter(dict(job, cache=cache, group=group))
    changeable = {path for path, access in Recorded.last.rules.items() if access & sandbox.WRITE_FILE}
    assert {os.path.realpath(str(tmp_path)), cache, f"{group}/cgroup.procs", "/dev/null"} <= changeable
    assert not changeable & {
        "/",
        "/usr",
        "/etc",
        "/tmp",
        "/var/tmp",
        "/dev",
        "/dev/shm",
        "/proc/self",
        str(tmp_path / "state"),
    }
    makes = {path for path, access in Recorded.last.rules.items() if access & ~(sandbox.READ | sandbox.USE)}
    assert makes == {os.path.realpath(str(tmp_path)), cache, f"{group}/cgroup.procs"}
    assert Recorded.last.rules["/"] == sandbox.READ_DIR


def test_accelerators_stay_usable_and_disks_terminals_and_shared_memory_do_not():
    usable = [
        "accel/accel0", "apex_0", "dri/renderD128", "galcore", "kfd", "nvhost-ctrl-gpu", "nvidia-caps/nvidia-cap1",
        "nvidia-uvm", "nvidia0", "nvmap", "null", "random",
    ]  # fmt: skip
    others = ["fuse", "kmem", "mem", "mmcblk0", "mqueue/x", "nullb0", "ptmx", "pts/0", "sda", "shm/x", "tty", "vda1"]
    scan = tree(*[f"/dev/{name}" for name in usable + others], links=("/dev/nvidia-link",))
    assert sorted(isolation.devices(scan)) == sorted({f"/dev/{name.split('/')[0]}" for name in usable})


def test_the_files_of_a_job_are_readable_below_a_hidden_folder_and_in_one_with_very_many_entries():
    many = [f"/home/me/{number}" for number in range(isolation.ENTRIES_MAX)]
    scan = tree(*many, "/home/me/bundle/model.onnx", "/home/me/.ssh/key")
    wanted = Isolation(("/home/me/.ssh",), ("/home/me/bundle/model.onnx",)).for_child((), network=False)
    needed = isolation.needed_paths({"isolation": wanted})
    paths = isolation.readable_paths(wanted["hidden"], needed, scan)
    assert "/home/me/bundle/model.onnx" in paths
    assert not {"/home", "/home/me", "/home/me/.ssh"} & set(paths)


def test_the_configuration_may_allow_a_folder_of_devices(job, monkeypatch):
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 7)
    monkeypatch.setattr(sandbox, "Ruleset", Recorded)
    job["isolation"]["writable"] = ["/dev/shm"]
    isolation.enter(job)
    assert Recorded.last.rules["/dev/shm"] == sandbox.READ_WRITE
    assert not {"/", "/dev"} & {path for path, access in Recorded.last.rules.items() if access & sandbox.READ_FILE}


def test_a_system_without_devices_has_none():
    assert isolation.devices(refuse(errno.ENOENT)) == []


def test_a_job_without_isolation_keeps_its_rights(monkeypatch):
    monkeypatch.setattr(sandbox, "leave_network", refuse(errno.EPERM))
    assert isolation.enter({}) == ()


def test_the_configuration_may_allow_the_network(job, monkeypatch):
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 7)
    monkeypatch.setattr(sandbox, "Ruleset", Recorded)
    job["isolation"]["network"] = True
    assert restrictions(job)["network"] == (False, "config.json allows it")
    assert Recorded.last.network


@pytest.mark.parametrize(("user", "text"), [(0, "a model runs as root"), (998, "uid 998")])
def test_the_user_is_named(job, monkeypatch, user, text):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(sandbox, "system_call", refuse(errno.ENOSYS))
    holds, detail = restrictions(job)["user"]
    assert not holds
    assert text in detail
