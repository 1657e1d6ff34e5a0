import random

import pytest

from vitsearch_agent.wire.distribution import median_interval, summarize


@pytest.mark.parametrize("n", [11, 63, 64, 129, 130, 661, 662])
def test_quantiles_need_enough_runs(n):
    latency = summarize([[float(value) for value in range(n)]])
    assert latency.n == n
    assert latency.p50 == (n - 1) / 2
    assert (latency.p90 is None) == (n < 64)
    assert (latency.p95 is None) == (n < 130)
    assert (latency.p99 is None) == (n < 662)


def test_a_median_of_ten_is_refused():
    with pytest.raises(ValueError, match="needs at least 11 samples, got 10"):
        summarize([[1.0] * 5, [1.0] * 5])


def test_interval_is_reproducible_encloses_the_median_and_shrinks():
    generator = random.Random(1)
    short = [[generator.gauss(10, 1) for _ in range(40)] for _ in range(2)]
    long = [[generator.gauss(10, 1) for _ in range(4000)] for _ in range(2)]
    assert median_interval(short, 3) == median_interval(short, 3)
    for values in (short, long):
        latency = summarize(values)
        assert latency.ci95_low <= latency.p50 <= latency.ci95_high
    short_low, short_high = median_interval(short)
    long_low, long_high = median_interval(long)
    assert long_high - long_low < short_high - short_low


def test_one_process_has_no_interval():
    assert median_interval([[1.0] * 500]) == (None, None)
    assert summarize([[1.0] * 500]).ci95_low is None


def test_interval_is_wider_for_correlated_samples():
    generator = random.Random(3)
    drawn = [generator.gauss(10, 1) for _ in range(60)]
    slow_drift = [value for value in drawn for _ in range(5)]
    shuffled = generator.sample(slow_drift, len(slow_drift))
    width = [high - low for low, high in map(median_interval, ([slow_drift] * 2, [shuffled] * 2))]
    assert width[0] > width[1]


def processes(generator, count, between):
    """Yield the samples of processes whose medians differ by the relative spread `between`."""
    for _ in range(count):
        own = 10.0 * (1.0 + between * generator.gauss(0, 1))
        yield [own + generator.gauss(0, 0.3) for _ in range(133)]


@pytest.mark.parametrize("count", [3, 5])
def test_interval_of_several_processes_covers_the_median_of_all_processes(count):
    generator = random.Random(4)
    covered = sum(low <= 10.0 <= high for low, high in (interval(generator, count) for _ in range(60)))
    assert covered >= 53


def interval(generator, count):
    return median_interval(list(processes(generator, count, 0.03)))


def test_processes_that_agree_do_not_widen_the_interval():
    generator = random.Random(6)
    pooled = [[10 + generator.gauss(0, 1) for _ in range(133)] for _ in range(5)]
    low, high = median_interval(pooled)
    assert high - low < 0.5


def test_interval_contains_the_median_and_is_not_negative():
    low, high = median_interval([[1.0] * 20, [9.0] * 20])
    assert low == 0.0
    assert high > 9.0
