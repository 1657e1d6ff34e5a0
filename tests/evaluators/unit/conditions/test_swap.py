import os

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.conditions.emulation import DeviceTree
from vitsearch_evaluators.conditions.swap import swapped

VMSTAT = "/proc/vmstat"


def test_pages_in_and_out(tmp_path):
    DeviceTree(str(tmp_path)).write(VMSTAT, "nr_free_pages 12\npswpin 100\npswpout 200\npgfault 5")
    assert swapped(System(str(tmp_path))) == (300 * os.sysconf("SC_PAGE_SIZE") / 1e6, None)


def test_a_kernel_without_swap_is_a_reason(tmp_path):
    DeviceTree(str(tmp_path)).write(VMSTAT, "nr_free_pages 12\n")
    assert swapped(System(str(tmp_path))) == (None, "/proc/vmstat does not tell of swap")


def test_no_file_is_a_reason(tmp_path):
    found = swapped(System(str(tmp_path)))
    assert found.total_mb is None
    assert "No such file" in found.reason
