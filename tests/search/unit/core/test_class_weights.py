"""The weights of classes in a loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.class_weights import class_weights, unknown_classes

NAMES = ("none", "scratch", "local")
numbers = st.lists(st.integers(1, 1000), min_size=3, max_size=3)
stated_weights = st.one_of(
    st.just("balanced"),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 100), min_size=1).map(lambda stated: tuple(stated.items())),
)


def test_without_weights_there_are_none():
    assert class_weights("none", NAMES, [800, 260, 90]) is None


@given(numbers)
def test_balanced_classes_count_equally_together(images):
    weights = class_weights("balanced", NAMES, images)
    together = [weight * count for weight, count in zip(weights, images, strict=True)]
    assert together == pytest.approx([sum(images) / 3] * 3)


@given(stated_weights, numbers)
def test_the_mean_over_all_images_is_1(weights, images):
    by_class = class_weights(weights, NAMES, images)
    assert sum(w * n for w, n in zip(by_class, images, strict=True)) / sum(images) == pytest.approx(1.0)


@given(numbers, st.floats(0.01, 100))
def test_only_the_ratios_of_weights_matter(images, factor):
    weights = class_weights((("none", 1.0), ("scratch", 2.0), ("local", 8.0)), NAMES, images)
    scaled = class_weights((("none", factor), ("scratch", 2 * factor), ("local", 8 * factor)), NAMES, images)
    assert weights == pytest.approx(scaled)


def test_a_class_that_is_not_named_has_weight_1():
    weights = class_weights((("local", 4.0),), NAMES, [1, 1, 1])
    assert (weights[0], weights[1], weights[2] / weights[0]) == (weights[0], weights[0], pytest.approx(4.0))


def test_a_class_without_images_has_weight_1():
    assert class_weights("balanced", NAMES, [10, 10, 0])[2] == 1.0


def test_names_that_are_no_class_are_found():
    assert unknown_classes((("locl", 2.0), ("none", 1.0)), NAMES) == ["locl"]
    assert unknown_classes("balanced", NAMES) == []
