"""Values of knobs and their positions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from vitsearch.study.auto_sampler.axes import Axis, value_at, value_near
from vitsearch.study.auto_sampler.encoding import Knob

LEVELS = st.integers(1, 12)
WITH_LEVELS = st.one_of(
    st.builds(
        lambda low, levels, step: IntDistribution(low, low + (levels - 1) * step, step=step),
        st.integers(-5, 5),
        LEVELS,
        st.integers(1, 3),
    ),
    st.builds(
        lambda low, levels: FloatDistribution(low / 4, low / 4 + (levels - 1) * 0.25, step=0.25),
        st.integers(-5, 5),
        LEVELS,
    ),
    st.builds(lambda levels: CategoricalDistribution(tuple(range(levels))), LEVELS),
)
DISTRIBUTIONS = [
    FloatDistribution(-2, 3),
    FloatDistribution(0, 1, step=0.25),
    FloatDistribution(1e-5, 1, log=True),
    IntDistribution(2, 9),
    IntDistribution(1, 11, step=5),
    IntDistribution(1, 100, log=True),
    CategoricalDistribution(("x", 3, None)),
]


@given(distribution=WITH_LEVELS, parts=st.integers(1, 5))
def test_end_levels_are_as_likely_as_inner_ones(distribution, parts):
    levels = 1 if distribution.single() else len(Counter(value_at(distribution, i / 997) for i in range(998)))
    shares = (np.arange(levels * parts) + 0.5) / (levels * parts)
    counts = Counter(value_at(distribution, share) for share in shares)
    assert set(counts.values()) == {parts}
    assert len(counts) == levels


def test_an_integer_by_factors_has_what_is_nearest_on_that_scale():
    counts = Counter(value_at(IntDistribution(1, 4, log=True), share) for share in np.linspace(0, 1, 10_000))
    expected = np.diff(np.log([0.5, 1.5, 2.5, 3.5, 4.5])) / np.log(9)
    assert [counts[value] / 10_000 for value in (1, 2, 3, 4)] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(share=st.floats(0, 1))
def test_each_share_is_a_legal_value_whose_position_leads_back_to_it(distribution, share):
    value = value_at(distribution, share)
    assert distribution._contains(distribution.to_internal_repr(value))
    assert value_near(distribution, Knob.of_distribution("k", distribution).position(value)) == pytest.approx(value)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(share=st.floats(0, 1))
def test_many_positions_are_drawn_as_one_value_is(distribution, share):
    drawn = Axis(distribution).draw(np.array([share]))[0]
    assert drawn == pytest.approx(Knob.of_distribution("k", distribution).position(value_at(distribution, share)))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS[:6])
@given(position=st.floats(0, 1))
def test_the_nearest_position_is_that_of_the_nearest_value(distribution, position):
    nearest = Axis(distribution).nearest(np.array([position]))[0]
    value = value_near(distribution, position)
    assert nearest == pytest.approx(Knob.of_distribution("k", distribution).position(value))


@pytest.mark.parametrize("distribution", [IntDistribution(0, 2), IntDistribution(1, 9, log=True)])
def test_a_small_step_of_a_knob_with_levels_is_one_level(distribution):
    axis, knob = Axis(distribution), Knob.of_distribution("k", distribution)
    before = np.array([knob.position(2)])
    assert value_near(distribution, axis.moved(before, before - 1e-3)[0]) == 1


def test_a_number_with_one_level_stays():
    axis = Axis(IntDistribution(3, 3))
    assert axis.moved(axis.draw(np.array([0.2])), np.array([0.9])).tolist() == axis.draw(np.array([0.7])).tolist()
