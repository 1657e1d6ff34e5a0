import pytest

from vitsearch_agent.measure.child import bursts
from vitsearch_agent.measure.child.bursts import BLOCK_S, PAIRS, REFERENCE_SETTLE_S, REST_S, BurstSampler, Timed
from vitsearch_agent.measure.child.hardware_counters import HardwareCounters
from vitsearch_agent.measure.child.timed_loop import Clocks
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS, SCREEN


class Machine:
    """Runs models that take their seconds times the `slowness` of the machine, on its own clocks."""

    def __init__(self, slowness=lambda now_s: 1.0):
        self.now_s = 0.0
        self.slowness = slowness
        self.order = []
        self.rests = []
        self.clocks = Clocks(lambda: self.now_s, lambda: self.now_s, lambda: self.now_s, self.sleep)

    def model(self, name, seconds, after_switch=1.0):
        def run():
            switched = not self.order or self.order[-1] != name
            self.order.append(name)
            self.now_s += seconds * self.slowness(self.now_s) * (after_switch if switched else 1.0)

        return run

    def sleep(self, seconds):
        self.rests.append(seconds)
        self.now_s += seconds


def no_counter(_event):
    raise OSError("none")


def sampled(machine, protocol=SCREEN, references=True, model_s=0.001, after_switch=1.0, settle_s=0.01):
    run = Timed(machine.model("model", model_s, after_switch), settle_s)
    products = Timed(machine.model("products", 0.002, after_switch), REFERENCE_SETTLE_S)
    convolutions = Timed(machine.model("convolutions", 0.0001, after_switch), REFERENCE_SETTLE_S)
    beside = (products, convolutions) if references else ()
    sampler = BurstSampler(run, beside, HardwareCounters(no_counter), machine.clocks)
    return sampler.sample(protocol)


def test_each_block_of_the_model_lies_between_both_references():
    machine = Machine()
    sampled(machine, SCREEN._replace(min_s=0.0))
    blocks = [name for index, name in enumerate(machine.order) if index == 0 or machine.order[index - 1] != name]
    turns = ["products", "model", "convolutions", "model"] * (PAIRS // 2)
    assert blocks == ["convolutions", *turns, "products"]


def test_bursts_follow_one_another_after_a_rest_until_both_minima_are_reached():
    machine = Machine()
    samples = sampled(machine)
    assert machine.rests == [REST_S] * (len(samples.bursts) - 1)
    assert machine.now_s >= SCREEN.min_s
    assert len(samples.samples.wall_ms) >= SCREEN.min_runs
    assert len(samples.bursts) == 2


def test_a_slow_model_has_three_counted_runs_in_a_block_and_ends_at_max_s():
    machine = Machine()
    samples = sampled(machine, model_s=2.0)
    assert machine.order.count("model") == 2 * PAIRS * (3 + 1)
    assert len(samples.samples.wall_ms) == 2 * PAIRS * 3


def test_the_run_after_a_switch_is_not_counted():
    samples = sampled(Machine(), after_switch=3.0)
    assert max(samples.samples.wall_ms) == pytest.approx(1.0)
    for burst in samples.bursts:
        for pair in burst:
            assert (pair.model.cpu_ms, pair.products.cpu_ms) == pytest.approx((1.0, 2.0))
            assert pair.convolutions.wall_ms == pytest.approx(0.1)


def test_a_model_settles_longer_the_more_has_to_come_back_into_the_caches():
    machine, slow = Machine(), Machine()
    counted = len(sampled(machine, settle_s=0.01).samples.wall_ms)
    assert len(sampled(slow, settle_s=0.04).samples.wall_ms) == pytest.approx(counted, rel=0.05)
    assert slow.order.count("model") - machine.order.count("model") == pytest.approx(2 * PAIRS * 30, abs=4 * PAIRS)
    assert [bursts.settle_s(megabytes * 10**6) for megabytes in (0, 4, 28)] == pytest.approx([0.006, 0.012, 0.04])


def test_a_machine_whose_speed_changes_slowly_changes_no_ratio():
    machine = Machine(lambda now_s: 1.0 + 0.5 * (int(now_s) % 2))
    ratios = [pair.model.cpu_ms / pair.products.cpu_ms for burst in sampled(machine).bursts for pair in burst]
    assert sorted(ratios)[len(ratios) // 2] == pytest.approx(0.5, rel=0.02)


def test_without_references_the_model_runs_alone_and_stops_as_soon_as_that_is_enough():
    machine = Machine()
    samples = sampled(machine, ONE_PROCESS._replace(min_runs=11, min_s=0.0), references=False)
    assert machine.order == ["model"] * 11
    assert samples.bursts == ()


def test_without_references_a_burst_is_as_long_as_the_blocks_of_the_model():
    machine = Machine()
    samples = sampled(machine, ONE_PROCESS, references=False)
    assert machine.rests == [REST_S] * 2
    assert len(samples.samples.wall_ms) == pytest.approx(3 * PAIRS * BLOCK_S / 0.001, abs=3)


def test_a_slow_model_alone_is_not_timed_right_after_a_rest():
    machine = Machine()
    samples = sampled(machine, references=False, model_s=0.07, after_switch=1.0)
    runs_between = len(machine.order) / (len(machine.rests) + 1)
    assert runs_between >= PAIRS * bursts.BLOCK_MINIMUM_RUNS
    assert len(machine.order) == len(samples.samples.wall_ms) + len(machine.rests), (
        "one run after each rest is not counted"
    )
    assert samples.rests == len(machine.rests) > 0
