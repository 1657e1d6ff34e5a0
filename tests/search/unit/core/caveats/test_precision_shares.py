"""Shares of a file's MACs in words."""

from __future__ import annotations

import pytest

from vitsearch.core.caveats.precision_shares import PROMISED, in_name_only, shown
from vitsearch.core.targets import TARGETS


def test_every_promise_is_of_a_precision_that_exists():
    assert set(PROMISED) <= {name for runtime in TARGETS.values() for name in runtime.precisions}


@pytest.mark.parametrize(
    ("precision", "shares", "words"),
    [
        ("int8_ptq", {"int8": 0.957, "fp32": 0.043}, "96% in int8"),
        ("int8_ptq", {"fp32": 0.99, "int8": 0.01}, "1% in int8"),
        ("int8_ptq", {"fp32": 0.999, "int8": 0.001}, "<1% in int8"),
        ("int8_ptq", {"int8": 0.9999, "fp32": 0.0001}, ">99% in int8"),
        ("int8_ptq", {"fp32": 1.0}, "0% in int8"),
        ("fp16", {"fp32": 1.0}, "0% in fp16"),
        ("fp16", {"fp16": 1.0}, ""),
        ("int8_weights", {"int8": 0.957, "fp32": 0.043}, "96% in int8"),
        ("int8_weights", {"fp32": 1.0}, ""),
        ("fp32", {"fp32": 1.0}, ""),
        ("int8_ptq", {}, ""),
    ],
)
def test_a_precision_is_shown_with_its_share(precision, shares, words):
    assert shown(precision, shares) == words


def test_a_precision_in_name_only_is_one_sentence():
    sentence = in_name_only("int8_dynamic", {"fp32": 0.9898, "int8": 0.0102})
    assert sentence == "int8 in name only: 1% of its MACs, 99% are in fp32"


@pytest.mark.parametrize(
    ("precision", "shares"),
    [
        ("int8_ptq", {"fp32": 0.95, "int8": 0.05}),
        ("int8_ptq", {}),
        ("int8_weights", {"fp32": 1.0}),
        ("fp32", {"fp32": 1.0}),
    ],
)
def test_a_precision_that_keeps_its_promise_or_made_none_is_not_blamed(precision, shares):
    assert in_name_only(precision, shares) is None
