import pytest

from vitsearch_agent.base.system import Output, System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.throttling import (
    ThrottlingState,
    ThrottlingVerdict,
    active_limits,
    compare,
    read_state,
    with_frequencies,
)

SLOW = "no processor ran above {} of its highest frequency"
PI = "/proc/device-tree/model"


def write(root, files):
    for path, value in files.items():
        DeviceTree(str(root)).write(path, value)


def over_current(root, events):
    DeviceTree(str(root)).over_current(events)


def pi(root, printed):
    """A Raspberry Pi whose vcgencmd prints `printed`."""
    write(root, {PI: "Raspberry Pi 5 Model B Rev 1.0\0"})
    return System(str(root), run=lambda argv: printed if isinstance(printed, Output) else Output(printed + "\n", None))


def across(root, before, after, system=None):
    """Return the verdict on a run between the states that `before()` and `after()` write."""
    system = system or System(str(root))
    before()
    first = read_state(system)
    after()
    return compare(first, read_state(system))


def test_a_change_of_a_jetson_counter_is_throttling_whatever_its_value(tmp_path):
    assert across(tmp_path, lambda: over_current(tmp_path, 27390), lambda: None) == (False, None)
    moved = across(tmp_path, lambda: over_current(tmp_path, 27390), lambda: over_current(tmp_path, 27402))
    assert moved == (True, "oc3 (instantaneous over-current) by 12")


def test_one_unreadable_jetson_counter_makes_the_verdict_unknown(tmp_path):
    over_current(tmp_path, 5)
    path = "/sys/class/hwmon/hwmon3/oc2_event_cnt"
    write(tmp_path, {path: ""})
    assert across(tmp_path, lambda: None, lambda: None) == (None, f"{path} holds no count")
    assert across(tmp_path, lambda: None, lambda: over_current(tmp_path, 6)).throttled is True


def test_event_counts_of_another_chip_are_ignored(tmp_path):
    write(tmp_path, {"/sys/class/hwmon/hwmon0/name": "other", "/sys/class/hwmon/hwmon0/oc1_event_cnt": 1})
    assert read_state(System(str(tmp_path))).counts == {}


INTERRUPTS = """           CPU0       CPU1       CPU2       CPU3
  8:          0          0          0          0     LIC  80 Level     soctherm_thermal
  9:         {}          0          2          0     LIC  83 Level     soctherm_edp
IPI0:        11         22         33         44   Rescheduling interrupts"""


def test_over_current_interrupts_of_the_nano_are_counted(tmp_path):
    def set_to(count):
        return lambda: write(tmp_path, {"/proc/interrupts": INTERRUPTS.format(count)})

    set_to(5)()
    assert read_state(System(str(tmp_path))).counts == {"soctherm_edp (over-current)": 7}
    assert across(tmp_path, set_to(5), set_to(6)).throttled is True
    assert across(tmp_path, set_to(5), set_to(5)).throttled is False


def test_throttle_counts_of_x86_cores_and_packages_are_read(tmp_path):
    def set_to(core, package):
        for cpu in (0, 1):
            folder = f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
            write(tmp_path, {f"{folder}/core_throttle_count": core, f"{folder}/package_throttle_count": package})

    assert across(tmp_path, lambda: set_to(3, 9), lambda: set_to(3, 9)).throttled is False
    assert across(tmp_path, lambda: set_to(3, 9), lambda: set_to(3, 10)) == (
        True,
        "package_throttle_count of 2 processors by 2",
    )


def test_a_core_switched_on_during_the_run_is_not_throttling(tmp_path):
    def core(cpu):
        folder = f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        return lambda: write(tmp_path, {f"{folder}/core_throttle_count": 7})

    assert across(tmp_path, core(0), core(1)) == (None, "core_throttle_count of 1 processors decreased or disappeared")


@pytest.mark.parametrize(
    ("before", "after", "throttled", "what"),
    [
        ("throttled=0x0", "throttled=0x0", False, None),
        ("throttled=0x0", "throttled=0x40000", True, "throttled for the first time since boot"),
        ("throttled=0x0", "throttled=0x50005", True, "under-voltage in force"),
        ("throttled=0x50000", "throttled=0x50000", None, "so a new event does not show: throttled, under-voltage"),
        ("throttled=0x50000", "throttled=0x70000", True, "frequency capped for the first time"),
        ("throttled=0x80008", "throttled=0x80000", True, "soft temperature limit in force"),
        ("nonsense", "nonsense", None, "vcgencmd get_throttled printed 'nonsense'"),
    ],
)
def test_only_new_bits_of_a_pi_are_throttling(tmp_path, before, after, throttled, what):
    verdict = compare(read_state(pi(tmp_path, before)), read_state(pi(tmp_path, after)))
    assert verdict.throttled is throttled
    assert verdict.what is None if what is None else what in verdict.what


def test_a_pi_without_permission_for_its_tool_is_unknown(tmp_path):
    unreadable = read_state(pi(tmp_path, Output("", "vcgencmd cannot be run: Permission denied")))
    assert compare(unreadable, unreadable) == (None, "vcgencmd cannot be run: Permission denied")


def test_vcgencmd_runs_only_on_a_raspberry_pi(tmp_path):
    def refuse(argv):
        raise AssertionError(argv)

    assert read_state(System(str(tmp_path), run=refuse)) == ThrottlingState()


def cooling(root, kind, state, transitions=None):
    folder = "/sys/class/thermal/cooling_device0"
    write(root, {f"{folder}/type": kind, f"{folder}/cur_state": state})
    if transitions is not None:
        write(root, {f"{folder}/stats/total_trans": transitions})


def test_a_cooling_device_proves_throttling_but_does_not_exclude_it(tmp_path):
    free, braked = lambda: cooling(tmp_path, "cpufreq-cpu0", 0), lambda: cooling(tmp_path, "cpufreq-cpu0", 3)
    assert across(tmp_path, free, braked) == (True, "cpufreq-cpu0 in force")
    assert across(tmp_path, free, free) == (None, "the system has no throttling counter")
    before = read_state(System(str(tmp_path)))
    assert compare(before, before, between=("cpufreq-cpu0",)).throttled is True


def test_a_cooling_device_with_statistics_excludes_throttling(tmp_path):
    calm = lambda: cooling(tmp_path, "thermal-cpufreq-0", 0, 4)  # noqa: E731
    assert across(tmp_path, calm, calm).throttled is False
    assert across(tmp_path, calm, lambda: cooling(tmp_path, "thermal-cpufreq-0", 0, 6)).throttled is True


@pytest.mark.parametrize(("kind", "state"), [("pwm-fan", 2), ("intel_powerclamp", -1), ("Processor", 0)])
def test_a_fan_is_not_a_limit(tmp_path, kind, state):
    cooling(tmp_path, kind, state)
    assert active_limits(System(str(tmp_path))) == ()


def test_a_device_without_counters_is_unknown(tmp_path):
    nothing = read_state(System(str(tmp_path)))
    assert compare(nothing, nothing) == (None, "the system has no throttling counter")


def test_a_counter_that_decreases_or_disappears_is_unknown(tmp_path):
    verdict = across(tmp_path, lambda: over_current(tmp_path, 9), lambda: over_current(tmp_path, 3))
    assert verdict == (None, "oc3 (instantaneous over-current) decreased or disappeared")
    gone = compare(ThrottlingState({"oc1": 4}), ThrottlingState())
    assert gone == (None, "oc1 decreased or disappeared")


I915 = ("/sys/class/drm/card1/gt/gt0/throttle_reason_{}", "/sys/class/drm/card1/gt/gt0/rps_act_freq_mhz")
XE_FREQUENCY = "/sys/class/drm/card0/device/tile0/gt1/freq0"
XE = (f"{XE_FREQUENCY}/throttle/reason_{{}}", f"{XE_FREQUENCY}/act_freq")


@pytest.mark.parametrize(("reason", "actual"), [I915, XE], ids=["i915", "xe"])
def test_limits_of_an_intel_gpu_are_in_force_while_it_works(tmp_path, reason, actual):
    system = System(str(tmp_path))
    write(tmp_path, dict.fromkeys(map(reason.format, ("pl1", "pl2", "thermal", "prochot", "status")), 0))
    write(tmp_path, {actual: 900})
    assert active_limits(system) == read_state(system).active == ()
    write(tmp_path, {reason.format("pl1"): 1, reason.format("prochot"): 1, reason.format("status"): 1})
    assert active_limits(system) == read_state(system).active == ("GPU limit pl1", "GPU limit prochot")
    write(tmp_path, {actual: 0})
    assert active_limits(system) == (), "an idle GPU is not limited"


@pytest.mark.parametrize(
    ("verdict", "ratios", "expected"),
    [
        ((False, None), [0.5, 0.45], (None, f"no throttling counter moved, but {SLOW.format('50%')}")),
        ((False, None), [0.45], (False, None)),  # perhaps that of a rest
        ((False, None), [0.5, 0.7], (False, None)),  # turbo of all processors
        ((False, None), [], (False, None)),
        ((None, "no counter"), [0.8], (None, f"no counter; {SLOW.format('80%')}")),
        ((None, "no counter"), [0.95], (None, "no counter")),
        ((True, "oc3 by 2"), [0.3, 0.3], (True, "oc3 by 2")),
    ],
)
def test_frequencies_raise_doubts_where_counters_count_heat_alone(verdict, ratios, expected):
    assert with_frequencies(ThrottlingVerdict(*verdict), ThrottlingState(), ratios) == expected


def test_frequencies_raise_no_doubts_where_counters_show_power_limits(tmp_path):
    """The clock of a Jetson's processors is low, too, while its GPU works."""
    over_current(tmp_path, 5)
    board = read_state(System(str(tmp_path)))
    raspberry = read_state(pi(tmp_path / "pi", "throttled=0x0"))
    for state in (board, raspberry):
        assert with_frequencies(ThrottlingVerdict(False, None), state, [0.3, 0.3]) == (False, None)
