"""The data decide on the form of a model."""

from __future__ import annotations

import numpy as np

from vitsearch.study.auto_sampler.encoding import Encoding, Knob
from vitsearch.study.auto_sampler.forms import AS_IT_COMES, Data, best_form

ENCODING = Encoding(tuple(Knob(name) for name in "abc"))


def data(function, count=40):
    positions = np.random.default_rng(0).random((count, 3))
    return Data(ENCODING.points(positions), function(*positions.T), np.zeros(count), np.zeros((count, 0)))


def test_a_product_of_factors_is_modelled_by_its_logarithm():
    form = best_form(data(lambda a, b, c: np.exp(3 * a + 2 * b - 4 * c)), may_be_by_factors=True)
    assert form.by_factors
    assert form.settings.additive


def test_a_sum_is_modelled_as_it_comes_though_it_is_positive():
    form = best_form(data(lambda a, b, c: 0.01 + a + 2 * b**2 + np.sin(3 * c) ** 2), may_be_by_factors=True)
    assert not form.by_factors
    assert form.settings.additive


def test_knobs_that_act_only_together_do_not_add_up():
    form = best_form(data(lambda a, b, c: np.sin(9 * a * b + 5 * c)), may_be_by_factors=True)
    assert not form.settings.additive


def test_what_may_be_negative_is_never_a_factor():
    assert not best_form(data(lambda a, b, c: a - b), may_be_by_factors=True).by_factors
    assert not best_form(data(lambda a, b, c: np.exp(5 * a)), may_be_by_factors=False).by_factors


def test_a_zero_with_a_rounding_error_is_no_factor():
    def cosine(a, b, c):
        return np.where(a < 0.1, 1e-17, np.exp(3 * a + 2 * b - 4 * c))

    assert not best_form(data(cosine), may_be_by_factors=True).by_factors


def test_few_or_equal_values_decide_nothing():
    assert best_form(data(lambda a, b, c: np.exp(5 * a), 5), may_be_by_factors=True) == AS_IT_COMES
    assert best_form(data(lambda a, b, c: 0 * a + 1), may_be_by_factors=True) == AS_IT_COMES


def test_deviations_become_relative_with_the_logarithm():
    values = data(lambda a, b, c: 10 + a)
    absolute = Data(values.points, values.targets, np.full(40, 0.5), np.ones((40, 1)))
    form = best_form(data(lambda a, b, c: np.exp(3 * a + 2 * b - 4 * c)), may_be_by_factors=True)
    scaled = absolute.in_form(form)
    np.testing.assert_allclose(scaled.deviations, 0.5 / values.targets)
    np.testing.assert_allclose(scaled.shared[:, 0], 1 / values.targets)
