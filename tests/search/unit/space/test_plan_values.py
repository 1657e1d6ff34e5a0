"""The keys of a plan file become those of a space file, each with its own place for messages."""

from __future__ import annotations

import io

import pytest

from vitsearch.errors import PlanError
from vitsearch.space.plan_values import read_words, space_path
from vitsearch.space.problems import Problem

BASE = {"space": {"resolution": 28}, "task": {}, "search": {}}


@pytest.fixture
def words(tmp_path):
    def read(text: str):
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return read_words(path)

    return read


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (("resolution",), ("space", "resolution")),
        (("compression", "head_pruning_ratio"), ("space", "head_pruning_ratio")),
        (("compression", "scope"), ("space", "pruning_scope")),
        (("deployments", 0, "precision"), ("space", "quantization")),
        (("recipe", "lr"), ("task", "fine_tune", "lr")),
        (("recipe", "seed"), ("search", "seed")),
        (("weights",), ("space", "backbone", "weights")),
        (("backbone", "weights"), ("space", "backbone", "weights")),
    ],
)
def test_each_key_has_a_path_in_a_space_file(own, expected):
    assert space_path(own) == expected


def test_words_replace_the_values_of_the_base(words):
    values = words("backbone: vit\nresolution: 24\nrecipe: {lr: 0.1}\n").over(BASE).plain()
    assert values["space"] == {"resolution": 24, "backbone": {"name": "vit"}}
    assert values["task"]["fine_tune"] == {"lr": 0.1}


def test_one_list_of_blocks_becomes_a_list_of_lists(words):
    assert words("token_pruning_at: [3, 6]").over(BASE).plain()["space"]["token_pruning_at"] == [[3, 6]]


def test_empty_values_count_as_left_out(words):
    assert not words("window_size: null\ntoken_pruning_at: []\n").has("window_size")


def test_problems_keep_the_path_of_the_plan_file(words):
    values = words("compression:\n  scope: local\n")
    own = values.own(Problem(("space", "pruning_scope"), "is wrong"))
    assert own.path == ("compression", "scope")
    assert values.source.location(own.path).line == 2


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("backbone: vit"))
    assert read_words("-").backbone == "vit"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "the file does not exist"),
        ("{", "line 1: not valid YAML"),
        ("[]", "a plan must be a mapping of keys"),
        ("", "a plan must be a mapping of keys"),
        ('{"points": [1, 2]}', r"this is a whole front \(points: 2\); copy one point, or its plan"),
    ],
)
def test_a_file_without_a_plan_is_refused(tmp_path, content, why):
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PlanError, match=why):
        read_words(path)
