import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.environment import changes, environment_id, fingerprint
from vitsearch_agent.wire.device_info import RuntimeInfo


def fake_board(root, governor="schedutil", uptime="0.1", temperature=40000):
    tree = DeviceTree(str(root))
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    files = {
        "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\n"
        "CPU part\t: 0xd0b\n\nprocessor\t: 1\n",
        "/proc/meminfo": "MemTotal:  8245120 kB\nSwapTotal: 0 kB\n",
        "/proc/sys/kernel/osrelease": "6.6.31\n",
        "/proc/loadavg": uptime,
        "/proc/uptime": uptime,
        f"{policy}/related_cpus": "0 1",
        f"{policy}/scaling_governor": governor,
        f"{policy}/scaling_cur_freq": temperature * 10,
    }
    for path, content in files.items():
        tree.write(path, content)
    tree.zone(0, "cpu-thermal", temperature)
    return System(str(root))


def test_the_fingerprint_describes_the_board(tmp_path):
    runtimes = (
        RuntimeInfo("onnxruntime", True, None, "1.2", ("CPUExecutionProvider",)),
        RuntimeInfo("other", False, "not installed", None, ()),
    )
    environment = fingerprint("0.1.0", runtimes, fake_board(tmp_path))
    assert environment["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert environment["cpu"] == "arm 0x41/0xd0b"
    assert environment["features"] == ["asimd", "asimddp"]
    assert environment["emulation"] is None
    assert environment["cores"] == 2
    assert environment["ram_mb"] % 64 == 0
    assert environment["settings"]["clusters"][0]["governor"] == "schedutil"
    assert environment["l4t"] is None
    assert environment["runtimes"] == {"onnxruntime": {"version": "1.2", "providers": ["CPUExecutionProvider"]}}


def test_a_reboot_keeps_the_environment_id_and_another_governor_changes_it(tmp_path):
    before = environment_id(fingerprint("0.1.0", (), fake_board(tmp_path / "a", "schedutil", "86400", 61000)))
    after = environment_id(fingerprint("0.1.0", (), fake_board(tmp_path / "b", "schedutil", "12", 38000)))
    other = environment_id(fingerprint("0.1.0", (), fake_board(tmp_path / "c", "powersave", "12", 38000)))
    assert before == after != other


def test_other_features_of_the_processor_are_another_environment(tmp_path):
    before = environment_id(fingerprint("0.1.0", (), fake_board(tmp_path)))
    text = (tmp_path / "proc" / "cpuinfo").read_text()
    (tmp_path / "proc" / "cpuinfo").write_text(text.replace("asimddp", "asimddp i8mm"))
    assert environment_id(fingerprint("0.1.0", (), System(str(tmp_path)))) != before


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023",
        "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)",
    ],
)
def test_another_driver_of_the_gpu_is_another_environment(tmp_path, line):
    before = fingerprint("0.1.0", (), fake_board(tmp_path))
    assert before["nvidia_driver"] is None
    tree = DeviceTree(str(tmp_path))
    tree.write("/proc/driver/nvidia/version", f"{line}\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1)")
    after = fingerprint("0.1.0", (), System(str(tmp_path)))
    assert after["nvidia_driver"] == line
    assert environment_id(after) != environment_id(before)


def test_an_unknown_machine_has_a_fingerprint(tmp_path):
    environment = fingerprint("0.1.0", (), System(str(tmp_path)))
    assert environment["board"] is None
    assert environment["cores"] is None
    assert environment["features"] is None
    assert len(environment_id(environment)) == 64


def test_changes_name_the_values_that_differ(tmp_path):
    before = fingerprint("0.1.0", (), fake_board(tmp_path / "a"))
    after = fingerprint("0.2.0", (), fake_board(tmp_path / "b"))
    after["settings"]["boost"] = False
    assert changes(before, before) == []
    assert changes(before, after) == ["agent: '0.2.0', before '0.1.0'", "settings.boost: False, before None"]
