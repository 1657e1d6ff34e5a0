"""The memory limit of a child: recorded cgroup trees, real address spaces, a real cgroup where one can be made."""

import json
import os
import subprocess
import sys

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.base.system import System
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure import memory_limit
from vitsearch_agent.measure.child_process import StopSignal, run_child
from vitsearch_agent.measure.memory_limit import NO_MEMORY_LIMIT, MemoryLimit, set_up
from vitsearch_agent.runtimes.ort import OrtRuntime
from vitsearch_agent.runtimes.tools.tool_runtime import run_tool
from vitsearch_agent.server import canary_measurement
from vitsearch_agent.wire.protocol import PEAKS


@pytest.fixture
def tree(tmp_path):
    """Make a machine: tree({path: content}) -> System."""

    def make(files):
        for path, content in files.items():
            target = tmp_path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        return System(root=str(tmp_path))

    return make


V2 = "/sys/fs/cgroup/system.slice/agent.service"
V2_FILES = {
    "/proc/self/cgroup": "0::/system.slice/agent.service\n",
    V2 + "/cgroup.procs": f"{os.getpid()}\n",
    V2 + "/cgroup.controllers": "cpu memory pids\n",
    V2 + "/cgroup.subtree_control": "",
    V2 + "/vitsearch-measured/memory.max": "max\n",
    V2 + "/vitsearch-measured/memory.swap.max": "max\n",
    V2 + "/vitsearch-measured/memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
}
V1 = "/sys/fs/cgroup/memory/vitsearch"
V1_FILES = {
    "/proc/self/cgroup": "5:cpu:/\n4:memory:/vitsearch\n0::/\n",
    V1 + "/cgroup.procs": "1\n2\n",
    V1 + "/vitsearch-measured/memory.limit_in_bytes": "",
    V1 + "/vitsearch-measured/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}


def test_without_a_limit_no_group_is_made(tree):
    assert set_up(None, tree(V2_FILES)) == NO_MEMORY_LIMIT
    assert NO_MEMORY_LIMIT.kills() is None


def test_a_version_2_group_is_made_and_the_agent_moves_to_a_subgroup(tree):
    system = tree(V2_FILES)
    limit = set_up(300, system)
    assert limit.group == system.at(V2 + "/vitsearch-measured")
    assert system.read(V2 + "/vitsearch-measured/memory.max").text == "300000000"
    assert system.read(V2 + "/vitsearch-measured/memory.swap.max").text == "0"
    assert system.read(V2 + "/cgroup.subtree_control").text == "+memory"
    assert system.read(V2 + "/vitsearch-agent/cgroup.procs").text == str(os.getpid())
    assert limit.kills() == 1
    assert limit.describe() == {"memory_mb": 300, "by": "cgroup", "reason": None}


def test_a_version_2_group_is_made_where_systemd_started_the_agent_in_its_subgroup(tree):
    files = dict(V2_FILES)
    files["/proc/self/cgroup"] = "0::/system.slice/agent.service/vitsearch-agent\n"
    files[V2 + "/cgroup.procs"] = ""
    files[V2 + "/vitsearch-agent/cgroup.procs"] = f"{os.getpid()}\n"
    files[V2 + "/vitsearch-agent/cgroup.controllers"] = ""
    system = tree(files)
    assert set_up(300, system).group == system.at(V2 + "/vitsearch-measured")
    assert system.read(V2 + "/cgroup.subtree_control").text == "+memory"


def test_a_version_1_group_is_made(tree):
    system = tree(V1_FILES)
    limit = set_up(300, system)
    assert limit.group == system.at(V1 + "/vitsearch-measured")
    assert system.read(V1 + "/vitsearch-measured/memory.limit_in_bytes").text == "300000000"
    assert limit.kills() == 2


def test_a_container_makes_the_group_below_the_root(tree):
    files = {path.replace("/vitsearch/", "/"): content for path, content in V1_FILES.items()}
    assert set_up(300, tree(files)).group.endswith("/sys/fs/cgroup/memory/vitsearch-measured")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"/proc/self/cgroup": ""}, "no memory controller"),
        ({V2 + "/cgroup.controllers": "cpu\n"}, "not delegated"),
        ({V2 + "/cgroup.procs": f"1\n{os.getpid()}\n"}, "the agent's group contains other processes"),
        ({"/proc/self/cgroup": "garbage\n1:x\n"}, "no memory controller"),
        ({"/proc/self/cgroup": "4:memory:/elsewhere\n"}, "no memory controller"),
    ],
)
def test_without_a_group_addresses_are_limited_and_the_reason_is_recorded(change, message, tree):
    limit = set_up(300, tree(dict(V2_FILES, **change)))
    assert limit.group is None
    assert message in limit.reason
    assert limit.describe()["by"] == "address space"


def test_without_any_way_to_limit_memory_the_reason_is_recorded(tree, monkeypatch):
    monkeypatch.setattr(memory_limit, "_MAPPED", "/nowhere/statm")
    limit = set_up(300, tree({}))
    assert limit.for_child() == {"memory_mb": None, "group": None}
    assert limit.describe()["by"] == "nothing"
    assert "no /nowhere/statm" in limit.reason


def child_job(protocol, **more):
    job = {"kind": "measure", "phase": "latency", "runtime": "faults", "options": {"fault": "hungry"}}
    return dict(job, protocol=protocol.to_json(), model="model.onnx", answer="answer.json", **more)


def test_a_child_that_exceeds_the_address_limit_is_out_of_memory(faulty_environment, tiny_protocol, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    job = child_job(tiny_protocol, **MemoryLimit(200, None, "none").for_child())
    with pytest.raises(MeasurementFailed) as caught:
        run_child(job, str(tmp_path), 120.0, StopSignal())
    assert caught.value.kind == "out_of_memory"


def test_a_child_within_the_address_limit_is_measured(tiny_protocol, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    job = child_job(tiny_protocol, **MemoryLimit(200, None, "none").for_child())
    job.update(runtime="noop", options={"busy_us": 1})
    assert run_child(job, str(tmp_path), 120.0, StopSignal())["report"]["wall_ms"]


@pytest.mark.parametrize(("provider", "reserves"), [("CPUExecutionProvider", False), ("CUDAExecutionProvider", True)])
def test_addresses_are_not_limited_where_a_gpu_is_used(provider, reserves):
    runtime = OrtRuntime()
    assert runtime.reserves_addresses(runtime.check_options({"provider": provider})) is reserves


IN_A_GROUP = """
import json, os, sys
from vitsearch_agent.measure import memory_limit
from vitsearch_agent.measure.child_process import StopSignal, run_child
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.base.system import THIS_MACHINE
memory_limit.join(sys.argv[1])
found = memory_limit.set_up(200, THIS_MACHINE)
job = dict(json.loads(sys.argv[2]), **found.for_child())
try:
    run_child(job, os.getcwd(), 120.0, StopSignal())
except MeasurementFailed as failure:
    print(json.dumps([failure.kind, found.group, found.kills()]))
"""


@pytest.fixture
def own_group():
    """A cgroup for a process in the role of the agent; it is removed afterwards with its subgroups."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root may make a cgroup")
    for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        path = os.path.join(root, f"vitsearch-confined-{os.getpid()}")
        if not os.path.exists(os.path.join(root, "cgroup.procs")):
            continue
        try:
            os.mkdir(path)
        except OSError:
            continue
        yield path
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)
        return
    pytest.skip("no memory cgroup can be made here")


def test_the_kernel_kills_a_child_that_exceeds_the_group_and_counts_the_kill(
    own_group, faulty_environment, tiny_protocol, tmp_path
):
    (tmp_path / "model.onnx").write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", IN_A_GROUP, own_group, json.dumps(child_job(tiny_protocol))],
        cwd=str(tmp_path),
        env=processes.with_package_path(dict(os.environ)),
        stdout=subprocess.PIPE,
        check=True,
    )
    kind, group, kills = json.loads(done.stdout.decode())
    assert kind == "out_of_memory"
    assert group.startswith(own_group)
    assert kills == 1


AGENT_IN_A_GROUP = """
import json, os, sys
from vitsearch_agent.measure import memory_limit
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
memory_limit.join(sys.argv[1])
with EmbeddedAgent(sys.argv[2]) as agent, agent.client("test", deadline_s=120.0) as client:
    runtimes = {runtime.name: [runtime.available, runtime.reason] for runtime in client.device().runtimes}
    done = client.measure(sys.argv[3], "noop", {"busy_us": 1})
    print(json.dumps([runtimes, done.latency_ms.n, client.device().fingerprint["memory_limit"]]))
"""


@pytest.mark.long
def test_a_runtime_check_that_exceeds_the_memory_limit_is_killed_and_the_agent_lives(
    own_group, faulty_environment, tmp_path, blob
):
    with open(os.path.join(faulty_environment, "hungry"), "w"):
        pass
    state = tmp_path / "state"
    (state / "config.json").write_text('{"limits": {"memory_mb": 300}}')
    done = subprocess.run(
        [sys.executable, "-c", AGENT_IN_A_GROUP, own_group, str(state), blob],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        check=True,
    )
    runtimes, runs, limit = json.loads(done.stdout.decode())
    assert runtimes["faults"] == [False, "the kernel killed it for memory"]
    assert runtimes["noop"] == [True, None]
    assert runs > 0
    assert (limit["by"], limit["memory_mb"]) == ("cgroup", 300)


DELEGATED = """
import errno, os, sys
from vitsearch_agent.measure import memory_limit
own, controller = sys.argv[1:]
memory_limit.join(own)
os.setgid(65534)
os.setuid(65534)
try:
    with open(own + "/cgroup.subtree_control", "w") as stream:
        stream.write("+" + controller)
except OSError as error:
    print(errno.errorcode[error.errno])
group = memory_limit.group_below(own, controller)
if os.fork() == 0:
    memory_limit.join(group)
    with open("/proc/self/cgroup") as stream:
        print([line for line in stream if line.startswith("0:")][0].strip().split("/")[-1], flush=True)
    os._exit(0)
os.wait()
print(*sorted(os.listdir(own + "/vitsearch-measured")))
"""


@pytest.fixture
def delegated():
    """A group of version 2 as systemd delegates it (the user owns what /sys/kernel/cgroup/delegate names), and a
    controller for which the kernel has its rules: `hugetlb` where `memory` is bound to a hierarchy of version 1,
    which a further mount of version 2 does not change (cgroup.controllers there lists what is left)."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root may make a cgroup")
    with open("/proc/self/mounts") as stream:
        roots = [line.split()[1] for line in stream if line.split()[2] == "cgroup2"]
    for root in roots:
        with open(os.path.join(root, "cgroup.controllers")) as stream:
            there = stream.read().split()
            free = [name for name in ("memory", "hugetlb") if name in there]
        with open(os.path.join(root, "cgroup.subtree_control")) as stream:
            enabled = stream.read().split()
        if not free:
            continue
        path = os.path.join(root, f"vitsearch-delegated-{os.getpid()}")
        try:
            if free[0] not in enabled:
                with open(os.path.join(root, "cgroup.subtree_control"), "w") as stream:
                    stream.write("+" + free[0])
            os.mkdir(path)
        except OSError:
            continue
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(os.path.join(path, name), 65534, 65534)
        yield path, free[0]
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)
        if free[0] not in enabled:
            with open(os.path.join(root, "cgroup.subtree_control"), "w") as stream:
                stream.write("-" + free[0])
        return
    mounted = ", ".join(roots) or "none"
    pytest.skip(f"neither memory nor hugetlb is a controller of version 2 here, mounted at: {mounted}")


def test_an_unprivileged_user_can_limit_children_in_a_delegated_version_2_group(delegated):
    own, controller = delegated
    done = subprocess.run(
        [sys.executable, "-c", DELEGATED, own, controller],
        env=processes.with_package_path(dict(os.environ)),
        stdout=subprocess.PIPE,
        check=True,
    )
    refused, inside, files = done.stdout.decode().splitlines()
    assert refused == "EBUSY", "a group with processes cannot have limited subgroups"
    assert inside == "vitsearch-measured"
    assert any(name.startswith(controller + ".") for name in files.split())


@pytest.mark.parametrize(
    "job",
    [
        {"kind": "runtime_check", "runtime": "noop"},
        {"kind": "copy", "runtime": "noop", "protocol": PEAKS._replace(min_s=0.0).to_json()},
        {"kind": "gemm", "runtime": "onnxruntime", "protocol": PEAKS._replace(min_s=0.0).to_json(),
         "precision": "fp32", "model": "gemm.onnx", "options": {}},
    ],
    ids=lambda job: job["kind"],
)  # fmt: skip
def test_every_kind_of_child_joins_the_group(job, tmp_path):
    if job["runtime"] == "onnxruntime":
        pytest.importorskip("onnxruntime")
    (tmp_path / "cgroup.procs").write_text("")
    complete = dict(job, answer="answer.json", **MemoryLimit(2000, str(tmp_path)).for_child())
    run_child(complete, str(tmp_path), 120.0, StopSignal())
    assert int((tmp_path / "cgroup.procs").read_text()) not in (0, os.getpid())


@pytest.mark.long
def test_the_canary_joins_the_group(tmp_path):
    (tmp_path / "cgroup.procs").write_text("")
    context = canary_measurement.CanaryContext(
        str(tmp_path / "canary"), "device", "e1" * 32, System(), memory_limit=MemoryLimit(2000, str(tmp_path))
    )
    assert canary_measurement.measure(["noop"], context, StopSignal()).cpu.p50 > 0
    assert int((tmp_path / "cgroup.procs").read_text()) not in (0, os.getpid())


def test_a_copy_that_exceeds_the_limit_is_out_of_memory(tmp_path):
    job = {"kind": "copy", "runtime": "noop", "protocol": PEAKS.to_json(), "answer": "answer.json"}
    with pytest.raises(MeasurementFailed) as caught:
        run_child(dict(job, **MemoryLimit(100, None, "none").for_child()), str(tmp_path), 120.0, StopSignal())
    assert caught.value.kind == "out_of_memory"


def test_a_missing_group_is_an_error(tmp_path):
    with pytest.raises(OSError, match="cgroup.procs"):
        memory_limit.join(str(tmp_path / "gone"))


DIE = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]


@pytest.mark.parametrize(("kills", "kind"), [((3, 4), "out_of_memory"), ((3, 3), "crash"), ((None, None), "crash")])
def test_a_program_that_the_kernel_killed_for_memory_is_out_of_memory(kills, kind, monkeypatch):
    counts = iter(kills)
    monkeypatch.setattr(processes, "out_of_memory_kills", lambda: next(counts))
    with pytest.raises(MeasurementFailed) as caught:
        run_tool(DIE)
    assert caught.value.kind == kind
