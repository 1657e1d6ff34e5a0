"""Parameters as numbers."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.study.auto_sampler.encoding import WIDTH, Encoding, Knob, key_of

PLANS = [{"family": "a", "ratio@a": 0.0}, {"family": "b", "word@b": "x"}, {"family": "a", "ratio@a": 0.5}]


def distances(points, knob):
    columns = points.distance[:, points.distance_owners == knob]
    return ((columns[:, None] - columns) ** 2).sum(axis=2)


def test_a_knob_without_meaning_has_no_position():
    encoding = Encoding.of_parameters(PLANS)
    assert [knob.name for knob in encoding.knobs] == ["family", "ratio@a", "word@b"]
    np.testing.assert_array_equal(
        encoding.positions(PLANS), [[0.0, 0.0, math.nan], [1.0, math.nan, 0.0], [0.0, 1.0, math.nan]]
    )


def test_two_words_and_a_missing_word_are_one_apart():
    encoding = Encoding.of_parameters(PLANS)
    points = encoding.points(encoding.positions(PLANS))
    np.testing.assert_allclose(distances(points, 0), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(distances(points, 2), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])


def test_a_missing_number_is_in_the_middle():
    encoding = Encoding.of_parameters(PLANS)
    points = encoding.points(encoding.positions(PLANS))
    np.testing.assert_allclose(distances(points, 1), [[0, 0.25, 1], [0.25, 0, 0.25], [1, 0.25, 0]])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_similarity_of_numbers_is_a_wide_gaussian_of_their_distance(values):
    points = Encoding((Knob("x"),)).points(np.array(values)[:, None])
    expected = np.exp(-((np.array(values)[:, None] - np.array(values)) ** 2) / (2 * WIDTH**2))
    np.testing.assert_allclose(points.similarity @ points.similarity.T, expected, atol=1e-3)


def test_features_are_further_knobs():
    encoding = Encoding.of_parameters(PLANS)
    points = encoding.points(encoding.positions(PLANS), np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]))
    assert points.knobs == 5
    np.testing.assert_allclose(distances(points, 4)[0], [0, 0.25, 1])


def test_a_space_without_a_choice_can_be_encoded():
    points = Encoding(()).points(np.empty((2, 0)))
    assert (len(points), points.knobs) == (2, 1)


def test_words_that_the_encoding_does_not_know_count_as_missing():
    assert math.isnan(Knob("w", ("x", "y")).position("gone"))
    assert math.isnan(Knob("x").position("word"))


def test_keys_tell_plans_apart_and_ignore_rounding():
    assert key_of({"a": 0.1 + 0.2, "b": "x"}) == key_of({"b": "x", "a": 0.3})
    assert key_of({"a": True}) != key_of({"a": 1})
    assert key_of({"a": 1}) == key_of({"a": 1.0})
    assert key_of({"a": 1}) != key_of({"a": 1, "b": 0})
