"""What an edited space file changes, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.space import load
from vitsearch.space.changes import SpaceChange

SMALL = Path(SPACE_FILES, "small.yaml")


def change(*overrides):
    return SpaceChange.between(load(SMALL).space, load(SMALL, list(overrides)).space, 7)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("space.resolution=[20, 24, 28]", "space.resolution: added 20"),
        ("space.resolution=28", "space.resolution: removed 24"),
        ("space.resolution=[20, 28]", "space.resolution: added 20, removed 24"),
        ("space.resolution=[28, 24]", "space.resolution: in another order"),
        ("search.trials=20", "search.trials: 14 -> 20"),
        ("task.teacher={backbone: vit_fmnist_p4}", "task.teacher: self -> vit_fmnist_p4 (builtin)"),
    ],
)
def test_a_choice_is_added_or_removed(override, line):
    assert change(override).lines == (line,)


def test_a_backbone_is_added_by_its_name():
    (line,) = change("space.backbone=[vit_fmnist_p4, mobilevit_fmnist]").lines
    assert line == "space.backbone: added mobilevit_fmnist (builtin)"


def test_a_new_limit_is_a_change():
    lines = change("limits.size_mb.max=2").lines
    assert "limits.size_mb.max: none -> 2" in lines


@pytest.mark.parametrize("override", ["storage=sqlite:///other.db", "resources.trainers=3"])
def test_where_a_study_lives_and_with_how_much_it_runs_changes_nothing(override):
    assert change(override) is None


def test_it_survives_json():
    read_back = change("search.trials=20")
    assert SpaceChange.from_json(read_back.to_json()) == read_back
    assert read_back.trials == 7
