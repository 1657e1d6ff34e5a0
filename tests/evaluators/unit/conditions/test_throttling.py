import pytest

from vitsearch_evaluators.base.system import Output, System
from vitsearch_evaluators.conditions.emulation import DeviceTree
from vitsearch_evaluators.conditions.throttling import Look, active_limits, compare, look

PI = "/proc/device-tree/model"


def write(root, files):
    for path, value in files.items():
        DeviceTree(str(root)).write(path, value)


def over_current(root, events):
    DeviceTree(str(root)).over_current(events)


def pi(root, said):
    """A Raspberry Pi whose vcgencmd says `said`."""
    write(root, {PI: "Raspberry Pi 5 Model B Rev 1.0\0"})
    return System(str(root), run=lambda argv: said if isinstance(said, Output) else Output(said + "\n", None))


def across(root, before, after, system=None):
    """The verdict on a run during which `before()` became `after()`."""
    system = system or System(str(root))
    before()
    first = look(system)
    after()
    return compare(first, look(system))


def test_the_change_of_a_jetson_counter_counts_not_its_value(tmp_path):
    assert across(tmp_path, lambda: over_current(tmp_path, 27390), lambda: None) == (False, None)
    moved = across(tmp_path, lambda: over_current(tmp_path, 27390), lambda: over_current(tmp_path, 27402))
    assert moved == (True, "oc3 (instantaneous over-current) by 12")


def test_a_jetson_counter_that_cannot_be_read_makes_the_others_no_acquittal(tmp_path):
    over_current(tmp_path, 5)
    path = "/sys/class/hwmon/hwmon3/oc2_event_cnt"
    write(tmp_path, {path: ""})
    assert across(tmp_path, lambda: None, lambda: None) == (None, f"{path} holds no count")
    assert across(tmp_path, lambda: None, lambda: over_current(tmp_path, 6)).throttled is True


def test_event_counts_of_another_chip_are_not_over_current(tmp_path):
    write(tmp_path, {"/sys/class/hwmon/hwmon0/name": "other", "/sys/class/hwmon/hwmon0/oc1_event_cnt": 1})
    assert look(System(str(tmp_path))).counts == {}


INTERRUPTS = """           CPU0       CPU1       CPU2       CPU3
  8:          0          0          0          0     LIC  80 Level     soctherm_thermal
  9:         {}          0          2          0     LIC  83 Level     soctherm_edp
IPI0:        11         22         33         44   Rescheduling interrupts"""


def test_the_nano_counts_interrupts(tmp_path):
    def set_to(count):
        return lambda: write(tmp_path, {"/proc/interrupts": INTERRUPTS.format(count)})

    set_to(5)()
    assert look(System(str(tmp_path))).counts == {"soctherm_edp (over-current)": 7}
    assert across(tmp_path, set_to(5), set_to(6)).throttled is True
    assert across(tmp_path, set_to(5), set_to(5)).throttled is False


def test_x86_counts_cores_and_packages(tmp_path):
    def set_to(core, package):
        for cpu in (0, 1):
            folder = f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
            write(tmp_path, {f"{folder}/core_throttle_count": core, f"{folder}/package_throttle_count": package})

    assert across(tmp_path, lambda: set_to(3, 9), lambda: set_to(3, 9)).throttled is False
    assert across(tmp_path, lambda: set_to(3, 9), lambda: set_to(3, 10)) == (
        True,
        "package_throttle_count of 2 processors by 2",
    )


def test_a_core_that_is_switched_on_meanwhile_is_no_throttling(tmp_path):
    def core(cpu):
        folder = f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        return lambda: write(tmp_path, {f"{folder}/core_throttle_count": 7})

    assert across(tmp_path, core(0), core(1)) == (None, "core_throttle_count of 1 processors went back or away")


@pytest.mark.parametrize(
    ("before", "after", "throttled", "what"),
    [
        ("throttled=0x0", "throttled=0x0", False, None),
        ("throttled=0x0", "throttled=0x40000", True, "throttled for the first time since boot"),
        ("throttled=0x0", "throttled=0x50005", True, "under-voltage in force"),
        ("throttled=0x50000", "throttled=0x50000", None, "cannot show it again: throttled, under-voltage"),
        ("throttled=0x50000", "throttled=0x70000", True, "frequency capped for the first time"),
        ("throttled=0x80008", "throttled=0x80000", True, "soft temperature limit in force"),
        ("nonsense", "nonsense", None, "vcgencmd get_throttled said 'nonsense'"),
    ],
)
def test_old_bits_of_a_pi_say_nothing_new_ones_do(tmp_path, before, after, throttled, what):
    verdict = compare(look(pi(tmp_path, before)), look(pi(tmp_path, after)))
    assert verdict.throttled is throttled
    assert verdict.what is None if what is None else what in verdict.what


def test_a_pi_whose_tool_may_not_be_used_is_unknown(tmp_path):
    blind = look(pi(tmp_path, Output("", "vcgencmd cannot be run: Permission denied")))
    assert compare(blind, blind) == (None, "vcgencmd cannot be run: Permission denied")


def test_vcgencmd_is_for_pis_alone(tmp_path):
    def refuse(argv):
        raise AssertionError(argv)

    assert look(System(str(tmp_path), run=refuse)) == Look()


def cooling(root, kind, state, transitions=None):
    folder = "/sys/class/thermal/cooling_device0"
    write(root, {f"{folder}/type": kind, f"{folder}/cur_state": state})
    if transitions is not None:
        write(root, {f"{folder}/stats/total_trans": transitions})


def test_a_brake_of_the_kernel_convicts_but_does_not_acquit(tmp_path):
    free, braked = lambda: cooling(tmp_path, "cpufreq-cpu0", 0), lambda: cooling(tmp_path, "cpufreq-cpu0", 3)
    assert across(tmp_path, free, braked) == (True, "cpufreq-cpu0 in force")
    assert across(tmp_path, free, free) == (None, "the system shows no throttling counter")
    before = look(System(str(tmp_path)))
    assert compare(before, before, between=("cpufreq-cpu0",)).throttled is True


def test_with_statistics_it_acquits_too(tmp_path):
    calm = lambda: cooling(tmp_path, "thermal-cpufreq-0", 0, 4)  # noqa: E731
    assert across(tmp_path, calm, calm).throttled is False
    assert across(tmp_path, calm, lambda: cooling(tmp_path, "thermal-cpufreq-0", 0, 6)).throttled is True


@pytest.mark.parametrize(("kind", "state"), [("pwm-fan", 2), ("intel_powerclamp", -1), ("Processor", 0)])
def test_a_fan_is_no_brake(tmp_path, kind, state):
    cooling(tmp_path, kind, state)
    assert active_limits(System(str(tmp_path))) == ()


def test_a_device_without_counters_is_unknown(tmp_path):
    nothing = look(System(str(tmp_path)))
    assert compare(nothing, nothing) == (None, "the system shows no throttling counter")


def test_a_counter_that_goes_back_or_away_is_unknown(tmp_path):
    verdict = across(tmp_path, lambda: over_current(tmp_path, 9), lambda: over_current(tmp_path, 3))
    assert verdict == (None, "oc3 (instantaneous over-current) went back or away")
    gone = compare(Look({"oc1": 4}), Look())
    assert gone == (None, "oc1 went back or away")
