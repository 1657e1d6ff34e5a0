"""Reading any content of /sys and /proc gives a value or None, and never an exception."""

import json
import math
import os
import tempfile

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from vitsearch_agent.base.canonical_json import canonical_json
from vitsearch_agent.base.system import Output, System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.environment import fingerprint
from vitsearch_agent.conditions.monitor import Monitor
from vitsearch_agent.wire.protocol import SCREEN

ZONE = "/sys/class/thermal/thermal_zone0"
POLICY = "/sys/devices/system/cpu/cpufreq/policy0"
BRAKE = "/sys/class/thermal/cooling_device0"
CPU0 = "/sys/devices/system/cpu/cpu0/thermal_throttle"
PATHS = [
    *(f"{ZONE}/{name}" for name in ("type", "temp")),
    *(f"/sys/class/hwmon/hwmon0/{name}" for name in ("name", "temp1_input", "oc1_event_cnt", "pwm1_enable")),
    *(f"{POLICY}/{name}" for name in ("related_cpus", "scaling_governor", "scaling_min_freq", "scaling_max_freq")),
    f"{POLICY}/scaling_cur_freq",
    *(f"{BRAKE}/{name}" for name in ("type", "cur_state", "stats/total_trans")),
    *(f"{CPU0}/{name}_throttle_count" for name in ("core", "package")),
    "/sys/class/devfreq/17000000.gpu/max_freq",
    "/proc/interrupts",
    "/proc/vmstat",
    "/proc/swaps",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/device-tree/model",
    "/etc/nvpmodel.conf",
    "/var/lib/nvpmodel/status",
]
WORDS = st.sampled_from(
    ["cpu-thermal", "cpufreq-cpu0", "soctherm_oc", "Raspberry Pi 5", "9: 1 2 x soctherm_edp", "pswpin", "pswpout 7"]
    + ["48300", "-256000", "0", "nan", "inf", "-1", "1e400", "9" * 30, "\u00b2", "0x10", "", "\0", "MemTotal: 1 kB"]
    + ["a\n/dev/zram0 partition 9 9 9", "pmode:0002", "pmode:", "processor : 0", "throttled=0x", "NV Power Mode: X\n1"]
)
TEXT = st.one_of(WORDS, st.lists(WORDS, max_size=4).map("\n".join), st.text(max_size=20))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(PATHS), TEXT), TEXT, st.sampled_from([*PATHS, None]))
def test_any_content_of_a_tree_gives_values_or_none(files, output, folder):
    with tempfile.TemporaryDirectory() as root:
        tree = DeviceTree(root)
        for path, text in files.items():
            if path != folder:
                tree.write(path, text.encode("utf-8", "replace").decode())
        if folder is not None:
            os.makedirs(root + folder, exist_ok=True)  # reading it is an OSError
        system = System(root, run=lambda argv: Output(output, None))
        assert canonical_json(fingerprint("0", (), system))
        monitor = Monitor(system, SCREEN, lambda: False)
        monitor.run("latency", dict)
        (seen,) = monitor.observations
        json.dumps(seen.to_json(), allow_nan=False)
        assert (seen.temperature is None) == ("temperature" in seen.reasons)
        assert (seen.swap_mb is None) == ("swap_mb" in seen.reasons)
        assert seen.throttled is False or seen.throttling
        if seen.temperature is not None:
            assert -40 < seen.temperature.max_c < 150
            assert not math.isnan(seen.temperature.start_c)
