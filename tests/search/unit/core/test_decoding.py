"""The decoder of what a database holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.decoding import Damaged, decoded, expect, parsed
from vitsearch.core.record import Record


@dataclass(frozen=True)
class Inner:
    share: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner | None
    kind: Literal["a", "b"]
    by_name: Mapping[str, Inner]
    pair: tuple[int, float] = (1, 2.0)
    free: Any = None


class Keyed(TypedDict):
    there: int
    perhaps: NotRequired[str]


GOOD = Outer(1, Inner(0.5, ("x",)), "a", {"one": Inner(1)})


def test_values_of_their_types_are_accepted():
    expect(Outer, GOOD, "row")
    expect(Outer, Outer(1, None, "b", {}, free=object()), "row")
    expect(Keyed, {"there": 1, "more": object()}, "row")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Outer("1", None, "a", {}), "row: count is '1', allowed: a whole number;"),
        (Outer(10**400, None, "a", {}), "row: count is 1000000"),
        (Outer(True, None, "a", {}), "row: count is True, allowed: a whole number;"),
        (Outer(1, Inner(float("nan")), "a", {}), "row: inner.share is nan, allowed: a finite number;"),
        (Outer(1, Inner(float("inf")), "a", {}), "row: inner.share is inf, allowed: a finite number;"),
        (Outer(1, Inner(0.5, ("x", 1)), "a", {}), "row: inner.names[1] is 1, allowed: a text;"),
        (Outer(1, Inner(0.5, "xy"), "a", {}), "row: inner.names is 'xy', allowed: a list;"),
        (Outer(1, 5, "a", {}), "row: inner is 5, allowed: a Inner or null;"),
        (Outer(1, None, "c", {}), "row: kind is 'c', allowed: one of a, b;"),
        (Outer(1, None, [], {}), "row: kind is a list, allowed: one of a, b;"),
        (Outer(1, None, "a", {"one": Inner("x")}), "row: by_name.one.share is 'x', allowed: a finite number;"),
        (Outer(1, None, "a", []), "row: by_name is a list, allowed: an object;"),
        (Outer(1, None, "a", {}, (1,)), "row: pair is a tuple, allowed: a list of 2;"),
        (Outer("x" * 5_000_000, None, "a", {}), "xxx..., allowed: a whole number;"),
    ],
)
def test_an_error_names_the_path_the_value_and_what_is_allowed(value, said):
    with pytest.raises(Damaged) as refused:
        expect(Outer, value, "row")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_key_that_is_missing_is_named():
    with pytest.raises(Damaged, match="row: it is a dict, allowed: an object with there"):
        expect(Keyed, {}, "row")
    with pytest.raises(Damaged, match="row: 'plan' is missing"):
        decoded(Record.from_json, {}, "row")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1', "row: '{\"a\": 1' is not valid JSON"),
        ("[" * 100_000, "row: is nested too deeply"),
        ('"\\ud800"', "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (None, "row: None is not valid JSON"),
        (7, "row: 7 is not valid JSON"),
    ],
)
def test_what_is_no_json_is_one_line(text, said):
    with pytest.raises(Damaged) as refused:
        parsed(text, "row")
    assert said in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_any_json_is_a_record_or_one_line(value):
    with pytest.raises(Damaged) as refused:
        decoded(Record.from_json, value, "row")
    assert "\n" not in str(refused.value)
