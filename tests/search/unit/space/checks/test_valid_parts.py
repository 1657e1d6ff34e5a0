"""What is valid in itself is kept when something beside it is wrong."""

from __future__ import annotations

from vitsearch.core.image_size import ImageSize
from vitsearch.space.checks.valid_parts import SearchedValues, valid_data

WRONG = {
    "task": {"data": {"source": "folder", "root": "in", "seed": "x"}, "teacher": {"backbone": "vit_fmnist_p4"}},
    "space": {"backbone": ["vit_fmnist_p4", 7, "own"], "resolution": [24, "x", 28], "head_pruning_ratio": 3},
    "baseline": {"backbone": "own", "resolution": "large"},
}


def test_the_valid_items_of_a_list_keep_their_place():
    searched = SearchedValues.of(WRONG)
    assert [(path, choice.name) for path, choice in searched.backbones] == [
        (("space", "backbone", 0), "vit_fmnist_p4"),
        (("space", "backbone", 2), "own"),
    ]
    left = [(("space", "resolution", 0), ImageSize.square(24)), (("space", "resolution", 2), ImageSize.square(28))]
    assert list(searched.values["resolution"]) == left


def test_an_invalid_knob_has_no_values_and_one_that_is_left_out_its_default():
    searched = SearchedValues.of(WRONG)
    assert searched.choices("head_pruning_ratio") == ()
    assert searched.choices("ffn_pruning_ratio") == (0.0,)


def test_sections_lose_their_invalid_keys_only():
    searched = SearchedValues.of(WRONG)
    assert (searched.baseline.backbone, searched.baseline.resolution) == ("own", None)
    assert searched.teacher is not None
    assert searched.teacher.backbone == "vit_fmnist_p4"
    assert (valid_data(WRONG).root, valid_data(WRONG).seed) == ("in", 0)


def test_data_without_a_valid_source_or_root_is_none():
    assert valid_data({"task": {"data": {"source": "folder", "root": 3}}}) is None
    assert valid_data({"task": {"data": {"source": "folders"}}}) is None
    assert valid_data({"task": 3}) is None
