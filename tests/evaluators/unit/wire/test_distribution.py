import random

import pytest

from vitsearch_evaluators.wire.distribution import median_interval, summarize


@pytest.mark.parametrize("n", [11, 63, 64, 129, 130, 661, 662])
def test_quantiles_need_enough_runs(n):
    latency = summarize([[float(value) for value in range(n)]])
    assert latency.n == n
    assert latency.p50 == (n - 1) / 2
    assert (latency.p90 is None) == (n < 64)
    assert (latency.p95 is None) == (n < 130)
    assert (latency.p99 is None) == (n < 662)


def test_a_median_of_ten_is_refused():
    with pytest.raises(ValueError, match="needs 11 samples, got 10"):
        summarize([[1.0] * 5, [1.0] * 5])


def test_interval_is_seeded_encloses_the_median_and_shrinks():
    generator = random.Random(1)
    short = [generator.gauss(10, 1) for _ in range(40)]
    long = [generator.gauss(10, 1) for _ in range(4000)]
    assert median_interval([short], 3) == median_interval([short], 3)
    for values in (short, long):
        latency = summarize([values])
        assert latency.ci95_low <= latency.p50 <= latency.ci95_high
    short_low, short_high = median_interval([short])
    long_low, long_high = median_interval([long])
    assert long_high - long_low < short_high - short_low


def test_interval_covers_the_true_median_about_as_often_as_it_says():
    generator = random.Random(2)
    covered = 0
    for trial in range(60):
        low, high = median_interval([[generator.expovariate(1.0) for _ in range(120)]], trial)
        covered += low <= 0.6931 <= high
    assert covered >= 50


def test_interval_is_wider_when_neighbours_are_alike():
    generator = random.Random(3)
    drawn = [generator.gauss(10, 1) for _ in range(60)]
    slow_drift = [value for value in drawn for _ in range(5)]
    shuffled = generator.sample(slow_drift, len(slow_drift))
    width = [high - low for low, high in map(median_interval, ([slow_drift], [shuffled]))]
    assert width[0] > width[1]


def processes(generator, count, between):
    """Medians of a model of which each process is by some percent faster or slower than the next."""
    for _ in range(count):
        own = 10.0 * (1.0 + between * generator.gauss(0, 1))
        yield [own + generator.gauss(0, 0.3) for _ in range(133)]


@pytest.mark.parametrize("count", [3, 5])
def test_the_interval_of_several_processes_holds_what_all_processes_would_give(count):
    generator = random.Random(4)
    covered = sum(low <= 10.0 <= high for low, high in (interval(generator, count) for _ in range(60)))
    assert covered >= 53


def interval(generator, count):
    return median_interval(list(processes(generator, count, 0.03)))


def test_one_process_cannot_tell_how_the_next_differs():
    generator = random.Random(5)
    one, *_ = series = list(processes(generator, 5, 0.03))
    alone, together = median_interval([one]), median_interval(series)
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


def test_processes_that_agree_cost_the_interval_nothing():
    generator = random.Random(6)
    pooled = [[10 + generator.gauss(0, 1) for _ in range(133)] for _ in range(5)]
    low, high = median_interval(pooled)
    assert high - low < 0.5


def test_the_interval_holds_the_median_and_no_negative_time():
    low, high = median_interval([[1.0] * 20, [9.0] * 20])
    assert low == 0.0
    assert high > 9.0
