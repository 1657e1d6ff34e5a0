"""Powercap trees of Intel and AMD, counters that wrap around, and files that only root may read."""

import pytest

from vitsearch_agent.base.system import Reading, System
from vitsearch_agent.power.rapl import RaplMeter, find_zones
from vitsearch_agent.testing import PowerMeterTestCase

POWERCAP = "/sys/class/powercap"


def zone(device, path, name, microjoules, largest=262143328850):
    device.write(f"{POWERCAP}/{path}/name", name)
    device.write(f"{POWERCAP}/{path}/energy_uj", microjoules)
    if largest is not None:
        device.write(f"{POWERCAP}/{path}/max_energy_range_uj", largest)


def laptop(device, microjoules=65997277274):
    zone(device, "intel-rapl:0", "package-0", microjoules)
    zone(device, "intel-rapl:0:0", "core", 5 * 10**9)
    zone(device, "intel-rapl:0:1", "uncore", 10**9)
    zone(device, "intel-rapl:1", "psys", 9 * 10**10)
    zone(device, "intel-rapl-mmio:0", "package-0", microjoules)


def server(device):
    for socket in (0, 1):
        zone(device, f"intel-rapl:{socket}", f"package-{socket}", 10**9)
        zone(device, f"intel-rapl:{socket}:0", "dram", 10**8, 65712999613)


def rise(device, steps, path="intel-rapl:0", seconds=0.1):
    """Return the energy in joules after each new value of the counter."""
    meter = RaplMeter(device.system)
    meter.start()
    samples = [meter.sample()]
    for microjoules in steps:
        device.wait(seconds)
        device.write(f"{POWERCAP}/{path}/energy_uj", microjoules)
        samples.append(meter.sample())
    return meter, [None if sample is None else sample.energy_j for sample in samples]


class TestRapl(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other = device, other_device
        self.microjoules = 262143328850 - 2 * 10**6  # it wraps around in the middle of a test

    def make_meter(self):
        laptop(self.device, self.microjoules)
        return RaplMeter(self.device.system)

    def make_missing_meter(self):
        return RaplMeter(self.other.system)

    def advance(self):
        self.device.wait(0.1)
        self.microjoules = (self.microjoules + 10**6) % 262143328850
        laptop(self.device, self.microjoules)


def test_a_package_is_counted_once_without_its_parts(device):
    laptop(device)
    assert find_zones(device.system) == ([f"{POWERCAP}/intel-rapl:0"], None)


def test_sockets_and_their_memory_are_counted_together(device):
    server(device)
    meter = RaplMeter(device.system)
    meter.start()
    meter.sample()
    device.wait(0.1)
    for path, more in (("0", 10), ("1", 20), ("0:0", 1), ("1:0", 2)):
        start = 10**8 if ":" in path else 10**9
        device.write(f"{POWERCAP}/intel-rapl:{path}/energy_uj", start + more * 10**6)
    assert meter.sample().energy_j == pytest.approx(33.0)


@pytest.mark.parametrize("name", ["package-0", "package-12", "package-0-die-1"])
def test_package_names_are_recognized(device, name):
    zone(device, "intel-rapl:0", name, 1)
    assert len(find_zones(device.system)[0]) == 1


@pytest.mark.parametrize("name", ["core", "psys", "package", "package-", "package-0x", ""])
def test_zones_other_than_packages_are_ignored(device, name):
    zone(device, "intel-rapl:0", name, 1)
    assert find_zones(device.system)[0] == []
    assert "no package among" in RaplMeter(device.system).available().reason


@pytest.mark.parametrize(("largest", "reached"), [(262143328850, 262143328850), (65532610987, 65532610987)])
def test_a_counter_continues_after_a_wrap_around(device, largest, reached):
    zone(device, "intel-rapl:0", "package-0", reached - 3 * 10**6, largest)
    assert rise(device, [reached - 10**6, 4 * 10**6])[1] == pytest.approx([0.0, 2.0, 7.0])


def test_a_drop_without_a_known_range_ends_the_series(device):
    zone(device, "intel-rapl:0", "package-0", 5 * 10**6, None)
    meter, joules = rise(device, [6 * 10**6, 10**6, 2 * 10**6])
    assert joules == [0.0, 1.0, None, None]
    assert "the counter restarted" in meter.problem


def test_a_restarted_counter_is_not_a_wrap_around(device):
    zone(device, "intel-rapl:0", "package-0", 10**11)
    meter, joules = rise(device, [10**6])
    assert joules == [0.0, None]
    assert "went from 100000 to 1 J" in meter.problem


def test_a_long_gap_may_hide_several_wrap_arounds(device):
    zone(device, "intel-rapl:0", "package-0", 10**6, 65532610987)
    meter, joules = rise(device, [2 * 10**6], seconds=3600)
    assert joules == [0.0, None]
    assert "wrapped around more than once" in meter.problem


@pytest.mark.parametrize("content", ["", "-1", "nan", "12 34", "0x12", "unsupported"])
def test_an_invalid_count_gives_a_reason(device, content):
    laptop(device)
    meter, joules = rise(device, [content])
    assert joules[-1] is None
    assert meter.problem


class Denied(System):
    """The files as an unprivileged user sees them since Linux 5.10."""

    def read(self, path):
        if path.endswith("energy_uj"):
            return Reading(None, f"{path} cannot be read: Permission denied")
        return super().read(path)


def test_a_counter_without_permission_is_unavailable_and_never_0(device):
    laptop(device)
    meter = RaplMeter(Denied(*device.system))
    state = meter.available()
    assert not state.available
    assert "Permission denied (only root may read it by default; the README has a udev rule)" in state.reason
    meter.start()
    assert meter.sample() is None
    assert "Permission denied" in meter.problem


def test_memory_without_permission_makes_the_meter_unavailable(device):
    server(device)
    device.write(f"{POWERCAP}/intel-rapl:1:0/energy_uj", "")
    assert "intel-rapl:1:0" in RaplMeter(device.system).available().reason
