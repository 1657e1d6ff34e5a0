"""Which cores measure, which train, and who keeps off them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.devices.cores import CAN_PIN, Cores, Processor, divided, processors

ALLOWED = tuple(sorted(os.sched_getaffinity(0))) if CAN_PIN else ()

pytestmark = pytest.mark.skipif(not CAN_PIN, reason="processes cannot be kept on some cores here")


def machine(*cores):
    """Processors of cores, each given as its numbers and its speed."""
    return sorted(
        (Processor(number, numbers, speed) for numbers, speed in cores for number in numbers),
        key=lambda processor: processor.number,
    )


def test_the_last_core_measures_and_the_others_train():
    four = machine(((0,), 1.0), ((1,), 1.0), ((2,), 1.0), ((3,), 1.0))
    assert divided(four, 1) == Cores((3,), (0, 1, 2))


@pytest.mark.parametrize("pairs", [[(0, 4), (1, 5), (2, 6), (3, 7)], [(0, 1), (2, 3), (4, 5), (6, 7)]])
def test_nobody_shares_a_core_with_the_device(pairs):
    cores = divided(machine(*((pair, 1.0) for pair in pairs)), 2)
    assert cores.device == (pairs[2][0], pairs[3][0])
    assert cores.trainers == tuple(sorted({*pairs[0], *pairs[1]}))


def test_the_fast_cores_of_a_hybrid_machine_measure():
    """Two fast cores with two threads each, then four efficient ones, as Linux numbers those of Intel."""
    hybrid = machine(((0, 1), 1024.0), ((2, 3), 1000.0), *(((number,), 623.0) for number in (4, 5, 6, 7)))
    assert divided(hybrid, 1) == Cores((2,), (0, 1, 4, 5, 6, 7))
    assert divided(hybrid, 2) == Cores((0, 2), (4, 5, 6, 7))
    assert divided(hybrid, 3).device == (0, 2, 7)


def test_two_processors_of_one_core_are_divided_where_there_are_no_others():
    assert divided(machine(((0, 1), 1.0)), 1) == Cores((0,), (1,))


CORES = st.lists(st.tuples(st.integers(1, 2), st.sampled_from((400.0, 1000.0, 1024.0))), min_size=1, max_size=8)


@given(CORES, st.integers(1, 20))
def test_every_division_has_a_processor_for_each_thread_that_there_is(shapes, threads):
    numbers, cores = iter(range(99)), []
    for width, speed in shapes:
        cores.append((tuple(next(numbers) for _ in range(width)), speed))
    available = machine(*cores)
    divided_cores = divided(available, threads)
    everything = {processor.number for processor in available}
    assert len(divided_cores.device) == min(threads, len(available))
    assert {*divided_cores.device, *divided_cores.trainers} <= everything
    assert divided_cores.trainers
    assert divided_cores.are_apart or threads >= len(available)


def test_processors_are_read_from_the_kernel(tmp_path):
    for number in ALLOWED:
        (tmp_path / f"cpu{number}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list").write_text(f"{number},64-65\n")
        (tmp_path / f"cpu{number}" / "cpu_capacity").write_text("512\n")
    assert processors(tmp_path) == [Processor(number, (number, 64, 65), 512.0) for number in ALLOWED]


def test_a_kernel_that_says_nothing_has_cores_that_are_all_alike(tmp_path):
    assert processors(tmp_path) == [Processor(number, (number,), 1.0) for number in ALLOWED]


def test_each_thread_has_a_core_and_trainings_share_them_where_none_is_left():
    cores = Cores.shared(len(ALLOWED))
    assert cores == Cores(ALLOWED, ALLOWED)
    assert not cores.are_apart


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core has to measure and to train")
def test_a_process_keeps_off_the_cores_of_the_device_for_a_while():
    cores = Cores.shared()
    assert cores.are_apart
    with cores.kept_free():
        assert os.sched_getaffinity(0) == set(cores.trainers)
    assert os.sched_getaffinity(0) == set(ALLOWED)
