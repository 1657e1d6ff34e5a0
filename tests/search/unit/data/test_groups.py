"""Groups of images that stay on one side of a split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.data_sources import group_problem
from vitsearch.data.groups import group_names, refuse_unfit, units
from vitsearch.data.holdout import held_out, rows_to_learn, set_aside
from vitsearch.data.problems import Problems
from vitsearch.errors import DataError


def said(problems: Problems) -> str:
    with pytest.raises(DataError) as raised:
        problems.raise_any()
    return str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [(r"p\d+", ("p1", "p2")), (r"(p\d+)_(\d)", ("p1", "p2")), (r"_(?P<shot>\d)", ("0", "3"))],
)
def test_a_regex_names_the_group_in_the_path(pattern, names):
    problems = Problems("photos")
    assert group_names(["bolt/p1_0.png", "nut/p2_3.png"], pattern, Path(), problems) == names
    assert not len(problems)


def test_images_without_a_group_are_counted_and_named():
    problems = Problems("photos")
    group_names(["bolt/p1_0.png", "nut/loose.png"], r"p\d+_", Path(), problems)
    assert said(problems) == (
        "photos: data.group: 'p\\\\d+_' finds no group in 1 of 2 images: nut/loose.png; it has to match in the path of "
        "every image below data.root"
    )


PATHS = ["bolt/p1_0.png", "bolt/p1_1.png", "nut/p2_0.png"]


@pytest.mark.parametrize(
    "text",
    [
        "file,part\nbolt/p1_0.png,a\nbolt/p1_1.png,a\nnut/p2_0.png,b\nnut/other.png,c\n",
        "\ufeffid;file;part\r\n1;p1_0.png;a\r\n2;p1_1.png;a\r\n\r\n3;p2_0.png;b\r\n",
        "part,file\na,./bolt\\p1_0.png\na,bolt\\p1_1.png\nb,nut\\p2_0.png\n",
    ],
)
def test_a_column_names_the_group_by_path_or_name(tmp_path, text):
    (tmp_path / "parts.csv").write_text(text, newline="")
    problems = Problems("photos")
    assert group_names(PATHS, "parts.csv:part", tmp_path, problems) == ("a", "a", "b")
    assert not len(problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "parts.csv below data.root cannot be read: No such file or directory"),
        ("", "parts.csv has no column 'part'; its first line has: "),
        ("file,parts\n", "parts.csv has no column 'part'; its first line has: 'file', 'parts'; did you mean 'parts'?"),
        (
            "file,part\nbolt/p1_0.png,a\nbolt/p1_1.png,\n",
            "parts.csv has no 'part' for 2 of 3 images: bolt/p1_1.png, nut/p2_0.png; a row names its image by the path "
            "below data.root, or by the name of the file",
        ),
        (
            "file,part\np1_0.png,a\np1_1.png,a\np2_0.png,b\np1_0.png,a\np1_1.png,b\n",
            "parts.csv gives images several values of 'part' (1): p1_1.png is in 'a' by line 3, in 'b' by line 6",
        ),
    ],
)
def test_what_is_wrong_with_a_column_is_one_message(tmp_path, text, message):
    if text is not None:
        (tmp_path / "parts.csv").write_text(text)
    problems = Problems("photos")
    group_names(PATHS, "parts.csv:part", tmp_path, problems)
    assert said(problems) == f"photos: data.group: {message}"


def test_a_wrong_regex_is_refused():
    assert group_problem("(p") is not None
    assert "'(p' is not a regular expression" in str(group_problem("(p"))
    assert group_problem("p+") is None


def test_one_group_is_refused_and_a_group_in_two_splits():
    problems = Problems("photos")
    refuse_unfit({"train": ["a", "a"]}, True, problems)
    assert said(problems) == (
        "photos: data.group: the 2 training images have 1 group ('a'); at least 3 are needed: to train on, to judge in "
        "the search and to validate on"
    )
    problems = Problems("photos")
    refuse_unfit({"train": ["a", "b", "b"], "validation": ["b", "c"]}, False, problems)
    assert said(problems).startswith(
        "photos: data.group: 1 of 3 groups have images in more than one split, such as 'b' in train and validation;"
    )


def test_a_class_of_one_group_is_refused():
    problems = Problems("photos")
    labels = np.array([0, 0, 1, 1])
    held_out(["1", "2", "3", "4"], labels, ("bolt", "nut"), 0.5, 0, problems, ["a", "b", "c", "c"])
    assert "in 1 of 2 classes all images belong together: 'nut' (group 'c'); a class needs" in said(problems)


@given(st.data())
def test_groups_are_whole_and_the_shares_near(data):
    count = data.draw(st.integers(3, 120))
    groups = data.draw(st.lists(st.integers(0, 30).map(str), min_size=count, max_size=count))
    contents = data.draw(st.lists(st.integers(0, 1000).map(str), min_size=count, max_size=count))
    share = data.draw(st.sampled_from([0.1, 0.25, 0.5]))
    joined = units(groups, contents)
    if len(set(joined.tolist())) < 3:
        return
    labels = np.zeros(count, np.int64)
    chosen = held_out(contents, labels, ("any",), share, 0, Problems("photos"), groups)
    largest = max(Counter(joined.tolist()).values())
    assert abs(chosen.sum() - share * count) <= largest + 1
    assert 0 < chosen.sum() < count
    train = np.flatnonzero(~chosen)
    left = units([groups[row] for row in train], [contents[row] for row in train])
    holdout = set_aside(labels[train], 2000, None, left)
    learned = rows_to_learn(len(train), holdout, left)
    assert sorted([*np.flatnonzero(chosen), *train[holdout], *train[learned]]) == list(range(count))
    for names in (groups, contents):
        sides = [{names[row] for row in rows} for rows in (np.flatnonzero(chosen), train[holdout], train[learned])]
        assert sum(map(len, sides)) == len(set(names))


@given(st.integers(0, 99))
def test_classes_keep_their_shares_and_the_order_of_images_does_not_matter(seed):
    labels = np.repeat([0, 1, 2], [400, 200, 100])
    groups = [f"part {row // 4}" for row in range(700)]
    contents = [str(row) for row in range(700)]
    problems = Problems("photos")
    chosen = held_out(contents, labels, ("a", "b", "c"), 0.1, seed, problems, groups)
    assert np.bincount(labels[chosen]).tolist() == pytest.approx([40, 20, 10], abs=4)
    assert (chosen == held_out(contents, labels, ("a", "b", "c"), 0.1, seed, problems, groups)).all()
