import os

from vitsearch_evaluators.fingerprint import device_identity, environment_id, fingerprint
from vitsearch_evaluators.records import RuntimeInfo


def fake_board(root, governor="schedutil", load="0.1"):
    files = {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\n",
        "proc/meminfo": "MemTotal:  8245120 kB\nSwapTotal: 0 kB\n",
        "proc/sys/kernel/osrelease": "6.6.31\n",
        "proc/loadavg": load,
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": governor,
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": governor,
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return str(root)


def test_reads_the_board(tmp_path):
    runtimes = (
        RuntimeInfo("onnxruntime", True, None, "1.2", ("CPUExecutionProvider",)),
        RuntimeInfo("other", False, "not installed", None, ()),
    )
    found = fingerprint("0.1.0", runtimes, fake_board(tmp_path))
    assert found["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert found["cpu"] == "arm 0x41/0xd0b"
    assert found["cores"] == 2
    assert found["ram_mb"] % 64 == 0
    assert found["governors"] == ["schedutil"]
    assert found["l4t"] is None
    assert found["runtimes"] == {"onnxruntime": {"version": "1.2", "providers": ["CPUExecutionProvider"]}}


def test_id_ignores_what_varies_and_sees_what_matters(tmp_path):
    ids = [
        environment_id(fingerprint("0.1.0", (), fake_board(tmp_path, governor, load)))
        for governor, load in [("schedutil", "0.1"), ("schedutil", "9.9"), ("powersave", "0.1")]
    ]
    assert ids[0] == ids[1] != ids[2]


def test_an_unknown_machine_has_a_fingerprint_too(tmp_path):
    found = fingerprint("0.1.0", (), str(tmp_path))
    assert found["board"] is None
    assert found["cores"] is None
    assert len(environment_id(found)) == 64


def test_identity_is_made_once(tmp_path):
    first = device_identity(str(tmp_path))
    assert first == device_identity(str(tmp_path))
    assert first.kind == "physical"
    assert len(first.device_id) == 32
    assert os.listdir(str(tmp_path)) == ["device.json"]
