"""Classes and splits in words and as JSON."""

from __future__ import annotations

from vitsearch.data.layout import MOST_LISTED, Layout, PrintedClassCounts, PrintedSplit, SplitCounts, SplitOrigin

DRAWN = SplitOrigin("10 %, drawn with seed 3", 0.1, 3)


def layout(train: dict[str, int]) -> Layout:
    counts = tuple(train.values())
    holdout = tuple(n // 10 for n in counts)
    splits = {
        "train": SplitCounts(sum(counts), counts, SplitOrigin("folder train")),
        "holdout": SplitCounts(sum(holdout), holdout, SplitOrigin("a tenth", 0.1, 0)),
        "validation": SplitCounts(sum(holdout), holdout, DRAWN),
    }
    return Layout(tuple(train), splits)


def test_each_split_and_class_is_a_line():
    assert layout({"bolt": 1200, "wing nut": 90}).describe().splitlines() == [
        "train: 1,290 images, folder train",
        "holdout: 129 images, a tenth",
        "validation: 129 images, 10 %, drawn with seed 3",
        "test: none",
        "classes: 2",
        "  class          train     holdout  validation        test",
        "  bolt            1200         120         120           -",
        "  wing nut          90           9           9           -",
    ]


def test_of_many_classes_the_largest_and_the_smallest_are_shown_with_their_number():
    text = layout({f"class {n:02}": 10 * n for n in range(1, 41)}).describe()
    lines = text.splitlines()
    assert lines[4] == "classes: 40; the largest and the smallest by training images:"
    assert [line.split()[1] for line in lines[6:10]] == ["40", "39", "38", "37"]
    assert lines[10] == "  (32 more)"
    assert [line.split()[1] for line in lines[11:]] == ["04", "03", "02", "01"]


def test_as_many_classes_as_fit_are_all_shown():
    counts = layout({f"class {n:02}": 10 for n in range(MOST_LISTED)}).describe()
    assert all(f"class {n:02}" in counts for n in range(MOST_LISTED))


def test_json_has_every_class_and_how_the_splits_came_about():
    forty = layout({f"class {n:02}": 10 * n for n in range(1, 41)})
    classes, splits = forty.printed_classes(), forty.printed_splits()
    assert len(classes) == 40
    assert classes[2] == PrintedClassCounts("class 03", train=30, holdout=3, validation=3, test=None)
    assert splits.validation == PrintedSplit(820, "10 %, drawn with seed 3", share=0.1, seed=3)
    assert splits.test is None


def test_a_class_name_cannot_send_control_characters():
    assert "\x1b" not in layout({"bolt\x1b[2J": 10, "nut": 10}).describe()
