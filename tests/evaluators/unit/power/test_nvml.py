"""NVML calls, answered by a fake library of Python functions that fill in the arguments."""

import ctypes
import shutil
import subprocess

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.power.nvml import FieldValue, NvmlError, NvmlMeter, opened
from vitsearch_agent.testing import PowerMeterTestCase

NOT_SUPPORTED = 3


class Library:
    """A driver with `cards` cards; a card does not support a value that is None. `open` counts init and shutdown."""

    def __init__(self, cards=1, energy_mj=None, instant_mw=None, usage_mw=None, init=0):
        self.cards = cards
        self.energy_mj = energy_mj
        self.instant_mw = instant_mw
        self.usage_mw = usage_mw
        self.init = init
        self.open = 0
        self.indices = []

        def words(code):
            return {3: b"Not Supported", 9: b"Driver Not Loaded", 15: b"GPU is lost"}.get(code.value, b"Unknown Error")

        self.nvmlErrorString = words

    def nvmlInit_v2(self):
        self.open += self.init == 0
        return self.init

    def nvmlShutdown(self):
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = self.cards
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        self.indices.append(index.value)
        handle._obj.value = 4711
        return 0 if index.value < self.cards else 2

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, energy):
        return self._answer(energy._obj, self.energy_mj)

    def nvmlDeviceGetFieldValues(self, handle, count, fields):
        field = fields._obj
        assert (count.value, field.field_id) == (1, 186)
        field.code = NOT_SUPPORTED if self.instant_mw is None else 0
        field.value = self.instant_mw or 0
        return 0

    def nvmlDeviceGetPowerUsage(self, handle, power):
        return self._answer(power._obj, self.usage_mw)

    def _answer(self, target, value):
        if value is None:
            return NOT_SUPPORTED
        target.value = value
        return 0


def missing():
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


class TestNvml(PowerMeterTestCase):
    library = Library(energy_mj=10**9)

    def make_meter(self):
        return NvmlMeter(System(), load=lambda: self.library)

    def make_missing_meter(self):
        return NvmlMeter(System(), load=missing)

    def advance(self):
        self.library.energy_mj += 1


def test_the_counter_is_preferred_to_the_power_and_that_to_a_mean():
    everything = {"energy_mj": 5000, "instant_mw": 60000, "usage_mw": 55000}
    samples = []
    for name in ("energy_mj", "instant_mw", "usage_mw"):
        library = Library(**everything)
        meter = NvmlMeter(System(), load=lambda library=library: library)
        meter.start()
        samples.append(meter.sample()[1:])
        everything[name] = None
    assert samples == [(None, 0.0), (60.0, None), (55.0, None)]
    assert meter.averaging_s == 1.0, "the last one is a mean over a second"


def test_a_failed_reading_gives_a_reason():
    library = Library(instant_mw=60000)
    meter = NvmlMeter(System(), load=lambda: library)
    meter.start()
    library.instant_mw = 2**32 - 1
    assert meter.sample() is None
    assert meter.problem == "the GPU's power is 4.29497e+06 W, expected more than 0 and at most 5000 W"
    library.instant_mw = 61000
    assert meter.sample().power_w == 61.0


def test_energy_counts_from_the_first_sample():
    library = Library(energy_mj=10**9)
    meter = NvmlMeter(System(), load=lambda: library)
    meter.start()
    meter.sample()
    library.energy_mj += 2500
    assert meter.sample().energy_j == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (Library(init=9), "nvmlInit_v2: Driver Not Loaded"),
        (Library(), "the GPU reports neither energy nor power: nvmlDeviceGetPowerUsage: Not Supported"),
        (Library(energy_mj=0, instant_mw=0, usage_mw=0), "neither energy nor power: it reports 0 W"),
        (Library(instant_mw=0, usage_mw=2**32 - 1), "neither energy nor power: it reports 4.29497e+06 W"),
        (Library(cards=0), "0 GPUs"),
        (Library(cards=2, energy_mj=5), "found 2 GPUs: choose one (0, 1, ...) in power.options.gpu of config.json"),
        (object(), "nvmlInit_v2: not in this driver"),
    ],
)
def test_an_error_of_the_driver_is_the_reason(library, reason):
    meter = NvmlMeter(System(), load=lambda: library)
    assert reason in meter.available().reason
    meter.start()
    assert meter.sample() is None
    assert reason in meter.problem


def test_one_of_several_cards_is_chosen_by_option():
    library = Library(cards=2, energy_mj=5)
    assert NvmlMeter(System(), {"gpu": 1}, load=lambda: library).available().available
    assert library.indices == [1]


def test_the_library_is_closed_in_every_case():
    for library in (Library(energy_mj=5), Library(), Library(cards=0)):
        NvmlMeter(System(), load=lambda library=library: library).available()
        assert library.open == 0


def test_a_card_that_disappears_gives_a_reason():
    library = Library(energy_mj=5)
    meter = NvmlMeter(System(), load=lambda: library)
    meter.start()
    library.nvmlDeviceGetTotalEnergyConsumption = lambda *_: 15
    assert meter.sample() is None
    assert meter.problem == "nvmlDeviceGetTotalEnergyConsumption: GPU is lost"


def test_an_emulated_device_does_not_read_the_card_of_this_machine(tmp_path):
    meter = NvmlMeter(System(str(tmp_path)), load=lambda: Library(energy_mj=5))
    assert "not the emulated device" in meter.available().reason


def test_the_structure_has_the_layout_of_nvml_h():
    assert ctypes.sizeof(FieldValue) == 40
    assert (FieldValue.code.offset, FieldValue.value.offset) == (28, 32)


DRIVER = r"""
#include <string.h>
typedef struct { unsigned int fieldId, scopeId; long long timestamp, latencyUsec; int valueType, nvmlReturn;
                 union { double d; unsigned int u; unsigned long long l; } value; } nvmlFieldValue_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gpuInstanceId, computeInstanceId; }
    nvmlProcessInfo_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; } nvmlProcessInfo_v1_t;
static int card;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = index == 1 ? &card : 0; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) { return device == &card ? 3 : 2; }
int nvmlDeviceGetFieldValues(void *device, int count, nvmlFieldValue_t *values) {
    if (device != &card || count != 1 || values->fieldId != 186) return 2;
    values->nvmlReturn = 0;
    values->value.u = 61500;
    return 0;
}
#ifdef OLD
int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned int *count, nvmlProcessInfo_v1_t *processes) {
#else
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, nvmlProcessInfo_t *processes) {
#endif
    if (*count < 65) { *count = 65; return 7; }
    *count = 2;
    processes[0].pid = 7; processes[0].usedGpuMemory = 5368709120ull;
    processes[1].pid = 8; processes[1].usedGpuMemory = -1ull;
    return 0;
}
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "Invalid Argument"; }
"""


def compiled(folder, *flags):
    (folder / "driver.c").write_text(DRIVER)
    library = str(folder / "driver.so")
    subprocess.check_call(["cc", "-shared", "-fPIC", *flags, "-o", library, str(folder / "driver.c")])
    return ctypes.CDLL(library)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_compiled_library_is_called_as_in_nvml_h(tmp_path):
    library = compiled(tmp_path)
    meter = NvmlMeter(System(), {"gpu": 1}, load=lambda: library)
    meter.start()
    assert meter.sample().power_w == 61.5
    meter.stop()
    other = NvmlMeter(System(), {"gpu": 0}, load=lambda: library)
    assert other.available().reason.endswith("nvmlDeviceGetPowerUsage: not in this driver")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.parametrize("flags", [(), ("-DOLD",)], ids=["version 3", "before it"])
def test_the_processes_of_a_card_are_read_as_in_nvml_h(tmp_path, flags):
    with opened(compiled(tmp_path, *flags)) as driver:
        assert driver.process_bytes(driver.card(1)) == {7: 5 << 30, 8: None}


def test_a_driver_without_a_list_of_processes_is_an_error():
    with opened(Library()) as driver, pytest.raises(NvmlError, match="RunningProcesses: not in this driver"):
        driver.process_bytes(driver.card(0))
