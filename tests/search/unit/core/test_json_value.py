"""Frozen values as JSON: by their types, and in ASCII whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.json_value import json_of, json_text


@dataclass(frozen=True)
class Ends:
    low: float
    high: float | None = None


@dataclass(frozen=True)
class Spans:
    file: Path
    by_trial: Mapping[int, tuple[Ends, ...]]


def test_inner_values_paths_and_numbers_as_names_become_json():
    value = Spans(Path("/a/b"), {3: (Ends(1.0), Ends(0.5, 2.0))})
    assert json_of(value) == {
        "file": "/a/b",
        "by_trial": {"3": [{"low": 1.0, "high": None}, {"low": 0.5, "high": 2.0}]},
    }


def test_a_list_of_values_is_a_list():
    assert json_of([Ends(1.0), Ends(2.0)]) == [{"low": 1.0, "high": None}, {"low": 2.0, "high": None}]
    assert json_of([]) == []


def test_a_path_that_is_no_utf_8_is_printed():
    assert json.loads(json_text(Spans(Path("/a\udcff"), {})))["file"] == "/a\udcff"


@given(st.text())
def test_no_text_controls_the_terminal(text):
    printed = json_text({"reason": text})
    assert printed.isascii()
    assert all(character == "\n" or character >= " " for character in printed)
    assert json.loads(printed) == {"reason": text}
