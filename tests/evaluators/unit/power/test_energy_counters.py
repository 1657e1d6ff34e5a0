import pytest

from vitsearch_agent.power.energy_counters import Counter

hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies

STEPS = strategies.lists(strategies.floats(0, 400), min_size=1, max_size=60)


@hypothesis.given(start=strategies.floats(0, 1000), steps=STEPS)
@hypothesis.settings(deadline=None)
def test_readings_that_wrap_around_add_up_to_the_energy_used(start, steps):
    counter = Counter(1000.0)
    counter.feed(start % 1000.0, 0.0)
    used = 0.0
    for index, step in enumerate(steps, 1):
        used += step
        value = counter.feed((start + used) % 1000.0, index * 0.1)
        assert value.number == pytest.approx(used, abs=1e-6)


@hypothesis.given(readings=strategies.lists(strategies.floats(allow_nan=False, allow_infinity=False), max_size=20))
@hypothesis.settings(deadline=None)
def test_for_any_readings_the_total_grows_or_ends(readings):
    counter = Counter(1000.0)
    last = 0.0
    for index, reading in enumerate(readings):
        value = counter.feed(reading, index * 0.1)
        assert (value.number is None) == (value.reason is not None)
        if value.number is not None:
            assert value.number >= last
            last = value.number
        else:
            last = float("inf")


def test_readings_at_the_same_time_are_accepted():
    counter = Counter()
    assert [counter.feed(joules, 5.0).number for joules in (1.0, 1.0, 3.0)] == [0.0, 0.0, 2.0]
