import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.process_reports import process_report
from vitsearch_agent.measure.child.phase_reports import Block, PairedBlock
from vitsearch_agent.measure.figures.paired_ratio import prior_weight, ratio
from vitsearch_agent.wire.paired import Paired, Ratio, ReferenceTimes, cpu_ms, disagreement, wall_ms

PRIOR = 0.5
QUIET = ReferenceTimes(2.0, 0.1, 2.0, 0.1, 40, False)


def cpu(block):
    return block.cpu_ms


def reports(processes, bursts, slowdowns, model_ms=4.0, weight=0.8, noise=None):
    """Yield processes in which memory slows the products by a factor, and the model by that factor to its weight."""
    for _ in range(processes):
        measured = []
        for _ in range(bursts):
            memory, everything = next(slowdowns)
            jitter = 1.0 if noise is None else math.exp(noise.gauss(0, 0.02))
            model = model_ms * memory**weight * everything * jitter
            blocks = [Block(ms, ms) for ms in (model, 2.0 * memory * everything, 0.1 * everything)]
            measured.append((PairedBlock(*blocks),) * 4)
        yield process_report([1.0] * 11, bursts=tuple(measured))


def calm():
    while True:
        yield 1.0, 1.0


def wild(generator):
    while True:
        yield math.exp(abs(generator.gauss(0, 0.3))), math.exp(abs(generator.gauss(0, 0.5)))


def milliseconds(estimate, times=QUIET):
    return cpu_ms(Paired("0" * 64, estimate, None, times), times)


@given(st.floats(1.0, 3.0), st.floats(0.05, 100.0))
def test_what_slows_everything_alike_changes_nothing(factor, model_ms):
    quiet = ratio(list(reports(2, 3, calm(), model_ms)), cpu, PRIOR)
    slowed = ratio(list(reports(2, 3, iter([(1.0, factor)] * 6), model_ms)), cpu, PRIOR)
    assert slowed == pytest.approx(quiet)
    assert milliseconds(slowed).p50 == pytest.approx(model_ms)


def test_the_weight_is_learnt_from_bursts_that_differ():
    generator = random.Random(1)
    for weight in (0.0, 0.4, 1.0):
        estimate = ratio(list(reports(5, 4, wild(generator), weight=weight)), cpu, PRIOR)
        assert estimate.weight == pytest.approx(weight, abs=0.05)
        assert milliseconds(estimate).p50 == pytest.approx(4.0, rel=0.03)


def test_bursts_that_are_all_alike_leave_the_prior():
    estimate = ratio(list(reports(2, 3, calm())), cpu, PRIOR)
    assert estimate.weight == pytest.approx(PRIOR)
    assert disagreement(estimate, 20.0) == pytest.approx(0.0)


def test_a_steady_neighbour_that_slows_only_one_reference_widens_the_interval_to_both():
    slowed = ratio(list(reports(2, 3, iter([(1.5, 1.0)] * 6), weight=0.9)), cpu, PRIOR)
    shown = milliseconds(slowed)
    assert shown.low < 4.0 < shown.high
    assert (shown.high - shown.low) / 2 / shown.p50 > 0.2
    assert disagreement(slowed, 20.0) > 0.05


@pytest.mark.parametrize(("processes", "least"), [(2, 0.9), (5, 0.9)])
def test_intervals_hold_the_true_time_as_often_as_they_promise(processes, least):
    generator = random.Random(2)
    covered = 0
    for _ in range(200):
        measured = [
            report
            for _ in range(processes)
            for report in reports(1, 3, wild(generator), 4.0 * math.exp(generator.gauss(0, 0.03)), noise=generator)
        ]
        shown = milliseconds(ratio(measured, cpu, PRIOR))
        covered += shown.low <= 4.0 <= shown.high
    assert covered / 200 >= least


def test_the_more_weights_a_model_has_the_more_it_is_like_the_products():
    weights = [prior_weight(size) for size in (0, 10**5, 2 * 10**6, 5 * 10**6, 11 * 10**6, 10**9)]
    assert weights == sorted(weights)
    assert (weights[1], weights[-1]) == (0.1, 0.8)


def test_a_single_process_has_a_ratio_without_an_interval():
    estimate = ratio(list(reports(1, 3, calm())), cpu, PRIOR)
    assert estimate.value == pytest.approx(4.0 / math.sqrt(2.0 * 0.1))
    assert estimate.rel_half_width is None
    assert milliseconds(estimate)[1:] == (None, None)


def test_processes_without_references_have_no_ratio():
    assert ratio([process_report([1.0] * 11)], cpu, PRIOR) is None


def test_a_clock_that_is_too_coarse_for_a_block_gives_no_ratio():
    block = PairedBlock(Block(1.0, 1.0), Block(1.0, 1.0), Block(0.0, 1.0))
    assert ratio([process_report([1.0] * 11, bursts=((block,),))], cpu, PRIOR) is None
    assert ratio([process_report([1.0] * 11, bursts=((block,),))], lambda pair: pair.wall_ms, PRIOR) is not None


def test_a_stored_ratio_moves_with_the_reference_times():
    estimate = Ratio(4.0, 0.5, 0.0, 0.02, 20.0)
    slower = QUIET._replace(products_cpu_ms=2.2, convolutions_cpu_ms=0.11)
    assert milliseconds(estimate, slower).p50 == pytest.approx(1.1 * milliseconds(estimate).p50)


def test_the_latency_of_a_thread_that_never_sleeps_is_its_cpu_time():
    estimate = Ratio(4.0, 0.5, 0.1, 0.02, 20.0)
    preempted = QUIET._replace(products_wall_ms=5.0, convolutions_wall_ms=0.3)
    assert wall_ms(Paired("0" * 64, estimate, None, preempted), preempted) == milliseconds(estimate)
    waiting = Paired("0" * 64, estimate, estimate, preempted)
    assert wall_ms(waiting, preempted).p50 == pytest.approx(4.0 * math.sqrt(5.0 * 0.3))
