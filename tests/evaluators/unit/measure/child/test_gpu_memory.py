"""The memory of a GPU, by lists of a fake NVML and by tables that Jetsons printed."""

import os

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.measure.child.gpu_memory import NVMAP, GpuMemory, Watch, parse_clients
from vitsearch_agent.measure.child.process_usage import MemoryReading
from vitsearch_agent.power.nvml import NvmlError

US, CHILD, OTHER = os.getpid(), 70001, 70002
MIB = 1 << 20
ORIN = """CLIENT                        PROCESS      PID        SIZE
user                         gpu_burn     7979   23525644K
user                      gnome_shell     8119       5800K
user                             Xorg     2651      17876K
total                                            23549320K"""
"""Of a Jetson Orin, from the notes of htop's reader of a Jetson (linux/NvidiaJetson.c)."""
NEW_COLUMNS = """CLIENT                        PROCESS      PID        SIZE
user                  VLLM::EngineCor  1792595   14617792K"""
"""Of L4T 36, from NVIDIA/skills, jetson-memory-audit."""


class Driver:
    """NVML with cards, each a mapping from process to bytes; `code` is what the list of processes returns."""

    def __init__(self, *cards, code=0):
        self.cards, self._code, self.open = cards, code, 0
        self.nvmlErrorString = lambda code: {3: b"Not Supported"}.get(code.value, b"Unknown Error")

    def nvmlInit_v2(self):
        self.open += 1
        return 0

    def nvmlShutdown(self):
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.cards)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = 1 + index.value
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle, count, processes):
        held = self.cards[handle.value - 1]
        places, count._obj.value = count._obj.value, len(held)
        if self._code == 0 and len(held) > places:
            return 7
        for process, (pid, used) in zip(processes, held.items(), strict=False):
            process.pid, process.used_bytes = pid, used
        return self._code


@pytest.fixture
def tree(tmp_path):
    """The files of a machine on which CHILD is a child of this process."""
    tree = DeviceTree(str(tmp_path))
    tree.write(f"/proc/{CHILD}/stat", f"{CHILD} (trt exec) S {US} 1 1 0 -1")
    tree.write(f"/proc/{OTHER}/stat", f"{OTHER} (python) S 1 1 1 0 -1")
    return tree


@pytest.fixture
def read(tmp_path, tree):
    return lambda load: GpuMemory(System(str(tmp_path)), load).read()


def absent():
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def jetson(tree, clients=None):
    tree.write("/proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0")
    if clients is not None:
        tree.write(NVMAP, clients)


def test_the_memory_of_this_process_and_its_children_is_added_up_over_the_cards(read):
    driver = Driver({US: 300 * MIB, OTHER: 9000 * MIB}, {CHILD: 200 * MIB})
    assert read(lambda: driver).value_mb == pytest.approx(500 * MIB / 1e6)
    assert driver.open == 0


def test_a_list_that_is_longer_than_expected_is_read_again(read):
    driver = Driver({**{100000 + number: MIB for number in range(100)}, US: 5 * MIB})
    assert read(lambda: driver).value_mb == pytest.approx(5 * MIB / 1e6)


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        pytest.param(Driver({OTHER: MIB}), "NVML lists no memory of this process", id="not listed"),
        pytest.param(Driver({US: 2**64 - 1}), "NVML does not count the memory of processes here", id="not counted"),
        pytest.param(
            Driver({US: MIB}, code=3),
            "NVML: nvmlDeviceGetComputeRunningProcesses_v3: Not Supported",
            id="not supported",
        ),
        pytest.param(Driver(), "NVML lists no memory of this process", id="no card"),
    ],
)
def test_a_card_that_does_not_count_gives_a_reason(read, driver, reason):
    assert read(lambda: driver) == (None, reason)
    assert driver.open == 0


def test_a_machine_without_the_driver_gives_a_reason_and_is_not_asked_again(tmp_path):
    calls = []

    def load():
        calls.append(None)
        absent()

    memory = GpuMemory(System(str(tmp_path)), load)
    assert memory.read() == memory.read() == (None, "NVML (the NVIDIA driver) is not installed")
    assert len(calls) == 1


@pytest.mark.parametrize("load", [absent, lambda: Driver({}), lambda: Driver({US: MIB}, code=3)])
def test_a_jetson_counts_by_nvmap(read, tree, load):
    jetson(tree, ORIN.replace("    7979", f"{US:>8}"))
    assert read(load).value_mb == pytest.approx(23525644 * 1024 / 1e6)


def test_thor_counts_by_nvml_although_its_nvmap_counts_nothing(read, tree):
    """jetson_stats pull request 849: the table has 0K in each row."""
    jetson(tree, f"user   python   {US}   0K\n")
    assert read(lambda: Driver({US: 3 * MIB})).value_mb == pytest.approx(3 * MIB / 1e6)
    reason = f"NVML (the NVIDIA driver) is not installed; {NVMAP} has no memory of this process"
    assert read(absent) == (None, reason)


def test_an_agent_that_may_not_read_nvmap_says_so(read, tree):
    jetson(tree)
    reason = f"NVML (the NVIDIA driver) is not installed; {NVMAP} cannot be read: No such file or directory"
    assert read(absent) == (None, reason)


@pytest.mark.parametrize(
    ("table", "clients"),
    [
        pytest.param(ORIN, [(7979, 23525644 << 10), (8119, 5800 << 10), (2651, 17876 << 10)], id="orin"),
        pytest.param(NEW_COLUMNS, [(1792595, 14617792 << 10)], id="l4t 36"),
        pytest.param("user   a b c   12   3M\nuser   x   13   12", [(12, 3 << 20)], id="spaces, a cut line"),
        pytest.param("", [], id="empty"),
    ],
)
def test_the_table_of_nvmap_is_read_by_its_last_columns(table, clients):
    assert list(parse_clients(table)) == clients


class Growing:
    """Memory that a program takes, and frees again before it ends."""

    def __init__(self, *readings):
        self._readings = iter(readings)
        self.count = len(readings)

    def read(self):
        self.count -= 1
        return next(self._readings, MemoryReading(None, "not listed"))


def watched(monkeypatch, memory):
    monkeypatch.setattr("vitsearch_agent.measure.child.gpu_memory._POLL_S", 0.001)
    with Watch(memory) as watch:
        while memory.count > 0:
            pass
    return watch.peak


def test_the_largest_memory_of_a_program_is_kept(monkeypatch):
    none = MemoryReading(None, "not listed")
    memory = Growing(none, MemoryReading(2.0, None), MemoryReading(5.0, None), none, MemoryReading(3.0, None))
    assert watched(monkeypatch, memory) == (5.0, None)


def test_a_program_without_memory_has_the_last_reason(monkeypatch):
    assert watched(monkeypatch, Growing(MemoryReading(None, "not listed"))) == (None, "not listed")


def test_a_program_that_ends_at_once_has_a_reason():
    with Watch(Growing()) as watch:
        pass
    assert watch.peak == (None, "the program ended before its memory was read")


def test_an_error_of_nvml_is_no_error_of_the_measurement(read):
    class Broken(Driver):
        def nvmlDeviceGetCount_v2(self, count):
            raise NvmlError("GPU is lost")

    assert read(lambda: Broken({})) == (None, "NVML: GPU is lost")
