"""Classes that a model hardly finds, and accuracies that its largest class explains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.pareto import wilson
from vitsearch.tasks.classification.caveats import class_caveats, class_warnings
from vitsearch.tasks.classification.confusion import Confusion

NAMES = ("none", "scratch", "local")
counts = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40).map(
    lambda pairs: Confusion.of(*zip(*pairs, strict=True))
)


def said(*cells):
    return list(class_caveats(Confusion(cells), NAMES).sentences("it"))


def test_a_class_with_less_than_half_of_the_mean_recall_is_named_with_its_counts():
    cells = (0, 0, 790), (0, 1, 10), (1, 0, 60), (1, 1, 200), (2, 0, 100), (2, 1, 38), (2, 2, 12)
    assert said(*cells) == ["it finds 12 of 150 'local': less than half of the mean recall, 0.61"]


def test_a_balanced_model_has_no_caveat():
    assert said((0, 0, 90), (0, 1, 10), (1, 1, 85), (1, 2, 15), (2, 0, 5), (2, 2, 95)) == []


def test_an_accuracy_within_chance_of_the_largest_class_is_no_better_than_that():
    cells = (0, 0, 40), (0, 1, 30), (0, 2, 30), (1, 0, 30), (1, 1, 35), (1, 2, 35), (2, 0, 33), (2, 1, 34), (2, 2, 33)
    (only,) = said(*cells)
    assert only == (
        "it is no more accurate than always saying 'none': 0.360 (0.308 to 0.416), and 0.333 of the images are of that "
        "class; its mean recall is 0.36 instead of 0.33"
    )


def test_many_missed_classes_are_counted():
    names = [f"part {number}" for number in range(7)]
    cells = ((0, 0, 500), *((label, 0, 10) for label in range(1, 6)), (6, 6, 500))
    (said,) = class_caveats(Confusion(cells), names).sentences("it")
    assert said == (
        "it finds 0 of 10 'part 1', 0 of 10 'part 2', 0 of 10 'part 3' and too few of 2 more classes: less than half "
        "of the mean recall, 0.29"
    )


def test_other_models_that_miss_a_class_share_a_line():
    missing = class_caveats(Confusion(((0, 0, 800), (1, 1, 260), (2, 0, 80), (2, 2, 10))), NAMES)
    fine = class_caveats(Confusion(((0, 0, 800), (1, 1, 260), (2, 0, 10), (2, 2, 80))), NAMES)
    assert list(class_warnings({"the baseline": fine, "trial 7, the knee,": missing}, {})) == [
        "trial 7, the knee, finds 10 of 90 'local': less than half of the mean recall, 0.70"
    ]
    assert list(class_warnings({"the baseline": fine}, {"3": missing, "5": fine, "9": missing})) == [
        "trials 3 and 9 of the front miss a class in the same way: 'local'"
    ]


@given(counts)
def test_a_caveat_follows_from_the_counts(confusion):
    caveats = class_caveats(confusion, NAMES)
    recalls = [row.accuracy for row in confusion.by_class(NAMES)]
    few = sorted(recall for recall in recalls if recall < confusion.mean_recall / 2)
    assert [row.accuracy for row in caveats.missed] == few
    low, _ = wilson(confusion.correct, confusion.n)
    assert (caveats.always is None) == (low > confusion.largest_share)
