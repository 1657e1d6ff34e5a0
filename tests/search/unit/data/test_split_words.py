"""Names of folders that people give to splits."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.data.split_words import ALLOWED, KEYS, ROLES, key_line, may_be_test, role_of

LIKE = {
    "train": [
        "train",
        "Train",
        "TRAIN",
        "training",
        "Training Set",
        "train2017",
        "train_images",
        "train-01",
        "trainset",
    ],
    "validation": ["val", "valid", "Validation", "VAL", "val_set", "dev", "eval", "hold-out", "Holdout", "images_val"],
    "test": ["test", "testing", "tests", "Test", "test data", "test2", "dataset_test"],
}


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in LIKE.items() for name in names])
def test_look_alikes_have_the_role_that_they_are_called_like(role, name):
    assert role_of(name) == role


@pytest.mark.parametrize(
    "name",
    ["bus", "trainer", "trains", "invalid", "value", "devices", "contest", "testimony", "valley", "set", "", "7"],
)
def test_other_names_have_no_role(name):
    assert role_of(name) is None


def test_only_words_with_two_meanings_may_be_test():
    assert [name for name in ("dev", "Eval_set", "hold-out", "val", "train", "test") if may_be_test(name)] == [
        "dev",
        "Eval_set",
        "hold-out",
    ]


@given(st.sampled_from([name for names in ALLOWED.values() for name in names]), st.data())
def test_case_separators_and_numbers_do_not_change_the_role(name, data):
    changed = "".join(data.draw(st.sampled_from([letter, letter.upper()])) for letter in name)
    tail = data.draw(st.sampled_from(["", "_set", "-images", " 2", "2017", "."]))
    assert role_of(changed + tail) == role_of(name)


@given(
    st.text(min_size=1) | st.sampled_from(["Train", "val set", "test-2", "dev: a", "on", "."]), st.sampled_from(ROLES)
)
def test_a_key_line_is_yaml_for_the_name(name, role):
    line = key_line(role, name)
    if name.isprintable():
        assert yaml.safe_load(line)[KEYS[role]] == name
