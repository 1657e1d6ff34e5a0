import pytest

from support.process_reports import process_report
from vitsearch_agent.measure.child.phase_reports import Block, PairedBlock
from vitsearch_agent.measure.figures.reference_store import Observed, ReferenceKey, ReferenceStore
from vitsearch_agent.measure.figures.timing import PAIRED, RAW, DeviceTimes, Timing
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS, SCREEN

KEY = ReferenceKey(str(SCREEN.reference), "1" * 64, "onnxruntime", 1)
RUNS = 60


def process(model_ms=4.0, products_ms=2.0, convolutions_ms=0.1, **changes):
    """A process in which the model and both references took the given CPU times."""
    pair = PairedBlock(*(Block(ms, ms) for ms in (model_ms, products_ms, convolutions_ms)))
    return process_report([model_ms] * RUNS, cpu_ms=(model_ms,) * RUNS, sleeps=0, bursts=((pair,) * 4,) * 3, **changes)


def timing(protocol=SCREEN, is_virtual=True, store=None, clock=lambda: 0.0, model_bytes=10**6):
    return Timing(protocol, model_bytes, DeviceTimes(store or ReferenceStore(), KEY, is_virtual), clock)


def measured(times, **settings):
    """Add processes with these model times for as long as another one is needed."""
    measured_timing = timing(**settings)
    for model_ms in times:
        if not measured_timing.needs_another():
            break
        measured_timing.add(process(model_ms))
    return measured_timing


def test_a_screen_starts_with_two_processes_and_ends_when_the_interval_is_narrow():
    measured_timing = measured([4.0, 4.01, 4.0, 4.0])
    assert measured_timing.fields()["processes"] == 2
    assert "interval" not in measured_timing.reasons()


def test_processes_that_differ_ask_for_more_up_to_the_protocols_number():
    measured_timing = measured([3.0, 5.0, 3.0, 5.0, 3.0, 5.0, 3.0])
    assert measured_timing.fields()["processes"] == SCREEN.max_processes
    assert "after 5 processes; the protocol asks for +-8.0%" in measured_timing.reasons()["interval"]


def test_no_process_starts_after_the_budget():
    seconds = iter([0.0, *[SCREEN.budget_s] * 9])
    measured_timing = measured([3.0, 5.0, 3.0], clock=lambda: next(seconds))
    assert measured_timing.fields()["processes"] == 2


def test_one_process_says_that_it_has_no_interval():
    measured_timing = measured([4.0], protocol=ONE_PROCESS._replace(reference=SCREEN.reference))
    assert measured_timing.reasons()["interval"] == "one process: a 95 % interval needs at least two"


def test_a_virtual_machine_shows_the_paired_time_and_a_quiet_one_the_raw_time():
    assert measured([4.0, 4.0]).fields()["basis"] == PAIRED
    assert measured([4.0, 4.0], is_virtual=False).fields()["basis"] == RAW


def test_a_machine_that_other_work_slows_down_shows_the_paired_time():
    store = ReferenceStore()
    store.add(
        KEY, "model", [Observed(*(factor * ms for ms in (2.0, 0.1, 2.0, 0.1))) for factor in (1.0, 1.3, 1.2, 1.3, 1.2)]
    )
    assert measured([4.0, 4.0], is_virtual=False, store=store).fields()["basis"] == PAIRED


def test_every_process_teaches_the_store_the_times_of_the_references():
    store = ReferenceStore()
    measured([4.0, 4.0], store=store)
    assert store.times(KEY).processes == 2


def test_references_that_disagree_flag_the_measurement_as_contended():
    store = ReferenceStore()
    store.add(KEY, "model", [Observed(2.0, 0.1, 2.0, 0.1)] * 30)
    busy, slow = timing(store=store), timing(store=store)
    for _ in range(2):
        busy.add(process(4.5, products_ms=3.0))
        slow.add(process(8.0, products_ms=4.0, convolutions_ms=0.2))
    assert busy.flags() == ("contended",)
    assert slow.flags() == (), "everything was slowed alike, which the ratio does not see"


def test_other_load_on_a_board_that_shows_raw_times_flags_the_measurement():
    quiet, busy = timing(is_virtual=False), timing(is_virtual=False)
    for _ in range(2):
        quiet.add(process(scheduler_cpu_s=1.0, scheduler_wait_s=0.0))
        busy.add(process(scheduler_cpu_s=1.0, scheduler_wait_s=0.5))
    assert (quiet.fields()["basis"], quiet.flags()) == (RAW, ())
    assert busy.flags() == ("contended",)


def test_what_the_store_has_of_an_earlier_attempt_is_not_added_again():
    store = ReferenceStore()
    measured_timing = timing(store=store)
    measured_timing.add(process())
    measured_timing.add(process(), is_new=False)
    assert (len(measured_timing.reports), store.times(KEY).processes) == (2, 1)


def test_no_process_follows_when_only_the_disagreement_of_the_references_is_left():
    store = ReferenceStore()
    store.add(KEY, "model", [Observed(2.0, 0.1, 2.0, 0.1)] * 30)
    measured_timing = timing(store=store)
    for _ in range(2):
        measured_timing.add(process(4.5, products_ms=3.0))
    assert not measured_timing.needs_another()
    assert "after 2 processes" in measured_timing.reasons()["interval"]


def test_a_model_that_only_loads_weights_has_a_wide_interval_and_says_why():
    measured_timing, small = timing(model_bytes=100 * 10**6), timing(model_bytes=20 * 10**6)
    for _ in range(2):
        measured_timing.add(process())
        small.add(process())
    assert (measured_timing.flags(), small.flags()) == (("memory_bound",), ())
    assert (
        measured_timing.fields()["paired"].cpu.rel_half_width > 0.8 > 0.1 > small.fields()["paired"].cpu.rel_half_width
    )
    assert not measured_timing.needs_another()
    assert "loading its 100 MB of weights takes most of the time" in measured_timing.reasons()["interval"]


def test_a_device_of_its_own_leaves_its_cache_to_a_model_that_only_loads_weights():
    measured_timing = timing(model_bytes=100 * 10**6, is_virtual=False)
    for _ in range(2):
        measured_timing.add(process())
    assert measured_timing.flags() == ()
    assert "interval" not in measured_timing.reasons()


def test_without_references_raw_times_decide_and_the_reason_is_given():
    measured_timing = timing(is_virtual=True)
    for _ in range(2):
        measured_timing.add(process_report([1.0] * RUNS, wait_s=0.5))
    assert (measured_timing.fields()["basis"], measured_timing.fields()["paired"]) == (RAW, None)
    assert measured_timing.reasons()["paired"] == "onnxruntime cannot run the reference models beside this model"
    assert measured_timing.flags() == ("contended",), "by the wait for a processor"


def test_a_protocol_without_references_says_so():
    measured_timing = timing(SCREEN._replace(reference=None))
    measured_timing.add(process_report([1.0] * RUNS))
    assert measured_timing.reasons()["paired"] == "the protocol has no reference models"


@pytest.mark.parametrize(("sleeps", "has_wall"), [(0, False), (RUNS, True)])
def test_a_model_that_waits_has_a_ratio_of_wall_times_of_its_own(sleeps, has_wall):
    measured_timing = timing()
    for _ in range(2):
        measured_timing.add(process()._replace(sleeps=sleeps))
    paired = measured_timing.fields()["paired"]
    assert (paired.wall is not None) is has_wall
    weight = paired.cpu.weight
    assert paired.cpu.value == pytest.approx(4.0 / (2.0**weight * 0.1 ** (1.0 - weight)))


def test_few_weights_lie_in_the_caches_of_the_core_however_fast_they_are_read():
    measured_timing = timing(model_bytes=3 * 10**6)
    for _ in range(2):
        measured_timing.add(process(0.05))
    assert measured_timing.flags() == ()
