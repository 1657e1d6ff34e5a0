import os

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.swap import swap_traffic

VMSTAT = "/proc/vmstat"


def test_pages_in_and_out_are_added(tmp_path):
    DeviceTree(str(tmp_path)).write(VMSTAT, "nr_free_pages 12\npswpin 100\npswpout 200\npgfault 5")
    assert swap_traffic(System(str(tmp_path))) == (300 * os.sysconf("SC_PAGE_SIZE") / 1e6, None)


def test_a_kernel_without_swap_counters_gives_a_reason(tmp_path):
    DeviceTree(str(tmp_path)).write(VMSTAT, "nr_free_pages 12\n")
    assert swap_traffic(System(str(tmp_path))) == (None, "/proc/vmstat has no swap counters")


def test_a_missing_file_gives_a_reason(tmp_path):
    traffic = swap_traffic(System(str(tmp_path)))
    assert traffic.total_mb is None
    assert "No such file" in traffic.reason
