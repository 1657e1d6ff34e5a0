"""The metrics of the built-in tasks, beside versions of them that anyone can follow."""

import math
from collections import Counter

import pytest

from vitsearch_agent.verify import metrics
from vitsearch_agent.verify.metrics import (
    NO_CLASS,
    Estimate,
    accuracy,
    cosines,
    knn_correct,
    mean_interval,
    neighbour_agreement,
    predicted_classes,
    student,
    wilson,
)

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(9, 10, 0.596, 0.982), (0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0)]
)
def test_wilson_interval(correct, n, low, high):
    # Newcombe 1998 and R's prop.test(correct=FALSE)
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-4)


def test_the_interval_contains_a_share_of_0_or_1():
    for n in range(1, 500):
        assert wilson(0, n)[0] == 0.0 < wilson(0, n)[1]
        assert wilson(n, n)[0] < wilson(n, n)[1] == 1.0


def test_the_accuracy_is_that_of_the_predicted_classes():
    outputs = numpy.array([[0.0, 2.0], [3.0, 1.0], [numpy.nan, 1.0], [1.0, numpy.inf]], "f4")
    predicted = predicted_classes(outputs)
    assert predicted.tolist() == [1, 0, NO_CLASS, NO_CLASS]
    assert accuracy(predicted, numpy.array([1, 1, 1, 1])) == Estimate(0.25, *wilson(1, 4), n=4)


# scipy.stats.t.ppf(0.975, degrees)
@pytest.mark.parametrize(
    ("degrees", "t"),
    [(1, 12.7062), (15, 2.1314), (16, 2.1199), (20, 2.0860), (30, 2.0423), (100, 1.9840), (10**6, 1.96)],
)
def test_students_t_for_any_number_of_images(degrees, t):
    assert student(degrees) == pytest.approx(t, abs=5e-4)


def test_the_interval_of_a_mean():
    # scipy.stats.t.interval(0.95, 3, mean, standard error)
    assert mean_interval([0.1, 0.4, 0.5, 0.9]) == pytest.approx((0.475, -0.05075, 1.00075, 4), abs=1e-4)
    assert mean_interval([True, False]).value == 0.5
    assert mean_interval([0.25]) == Estimate(0.25, None, None, 1)
    assert mean_interval([1.0] * 5) == Estimate(1.0, 1.0, 1.0, 5)


def plain_cosine(first, second):
    first, second = [float(value) for value in first], [float(value) for value in second]
    lengths = math.sqrt(sum(value**2 for value in first)) * math.sqrt(sum(value**2 for value in second))
    return sum(left * right for left, right in zip(first, second, strict=True)) / lengths if lengths else 0.0


def plain_nearest(rows, index, k):
    """The nearest other rows with their cosines, the first of equally near ones."""
    others = [other for other in range(len(rows)) if other != index]
    near = [(-round(plain_cosine(rows[index], rows[other]), 9), other) for other in others]
    return [(other, -cosine) for cosine, other in sorted(near)[:k]]


def plain_agreement(outputs, reference, k=10):
    k = min(k, len(outputs) - 1)
    if not k:
        return [1.0]
    return [
        len({i for i, _ in plain_nearest(outputs, index, k)} & {i for i, _ in plain_nearest(reference, index, k)}) / k
        for index in range(len(outputs))
    ]


def plain_knn(outputs, labels, k=10):
    right = []
    for index in range(len(outputs)):
        votes, sums = Counter(), Counter()
        for other, cosine in plain_nearest(outputs, index, k):
            votes[labels[other]] += 1
            sums[labels[other]] += cosine
        ranked = sorted(votes, key=lambda label: (-votes[label], -round(sums[label], 8), label))
        right.append(bool(ranked) and ranked[0] == labels[index])
    return right


@pytest.fixture
def sets():
    """A strategy of (rows, other rows, labels): with equal rows, rows of zeros and few labels, so with ties."""
    strategies = pytest.importorskip("hypothesis.strategies")

    @strategies.composite
    def draw(pick):
        n, width = pick(strategies.integers(1, 30)), pick(strategies.integers(1, 4))
        numbers = strategies.integers(-3, 3)
        rows = [[[pick(numbers) for _ in range(width)] for _ in range(n)] for _ in range(2)]
        labels = [pick(strategies.integers(0, 2)) for _ in range(n)]
        return numpy.array(rows[0], "f4"), numpy.array(rows[1], "f4"), numpy.array(labels)

    return draw()


@pytest.mark.parametrize("block_bytes", [1, 1000, 16 << 20])
def test_the_metrics_are_those_of_their_definitions(sets, fuzz, monkeypatch, block_bytes):
    hypothesis = pytest.importorskip("hypothesis")
    monkeypatch.setattr(metrics, "_BLOCK_BYTES", block_bytes)

    @fuzz(60)
    @hypothesis.given(sets, hypothesis.strategies.integers(1, 12))
    def every(values, k):
        outputs, reference, labels = values
        plain = [plain_cosine(row, other) for row, other in zip(outputs, reference, strict=True)]
        assert cosines(outputs, reference) == pytest.approx(plain, abs=1e-12)
        agreement = neighbour_agreement(outputs, reference, k)
        assert agreement == pytest.approx(plain_agreement(outputs, reference, k), abs=1e-12)
        assert knn_correct(outputs, labels, k).tolist() == plain_knn(outputs, labels.tolist(), k)

    every()


def test_what_must_hold_whatever_the_embeddings(sets, fuzz):
    hypothesis = pytest.importorskip("hypothesis")

    @fuzz(60)
    @hypothesis.given(sets, hypothesis.strategies.floats(1e-30, 1e30))
    def every(values, scale):
        outputs, reference, labels = values
        assert (numpy.abs(cosines(outputs, reference)) <= 1).all()
        assert cosines(outputs, reference) == pytest.approx(cosines(reference, outputs), abs=1e-15)
        assert (neighbour_agreement(outputs, outputs) == 1).all()
        assert neighbour_agreement(outputs, reference).tolist() == neighbour_agreement(reference, outputs).tolist()
        scaled = outputs.astype("f8") * scale
        assert cosines(scaled, reference) == pytest.approx(cosines(outputs, reference), abs=1e-12)
        assert knn_correct(scaled, labels).tolist() == knn_correct(outputs, labels).tolist()
        if (labels == labels[0]).all() and len(labels) > 1:
            assert knn_correct(outputs, labels).all()

    every()


def test_one_image_has_no_neighbours():
    alone = numpy.ones((1, 3), "f4")
    assert neighbour_agreement(alone, alone).tolist() == [1.0]
    assert knn_correct(alone, numpy.zeros(1, int)).tolist() == [False]


def test_equally_many_neighbours_are_decided_by_their_cosines():
    rows = numpy.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.5], [1.0, 0.2], [1.0, 0.4]])
    # Of the first, both labels have two neighbours: those of label 7 are 1 and 3, the nearest.
    labels = numpy.array([7, 7, 8, 7, 8])
    assert knn_correct(rows, labels, 4)[0]
    labels[0] = 8
    assert not knn_correct(rows, labels, 4)[0]


def test_many_images_need_little_memory(monkeypatch):
    """Blocks of few rows give what one block gives."""
    random = numpy.random.RandomState(0)
    outputs = random.standard_normal((700, 16)).astype("f4")
    reference = outputs + 0.3 * random.standard_normal(outputs.shape).astype("f4")
    labels = outputs[:, :3].argmax(1)
    whole = neighbour_agreement(outputs, reference), knn_correct(outputs, labels)
    monkeypatch.setattr(metrics, "_BLOCK_BYTES", 8 * 700 * 13)
    sizes = [rows.stop - rows.start for rows in metrics._blocks(700)]
    assert max(sizes) == 13
    assert neighbour_agreement(outputs, reference).tolist() == whole[0].tolist()
    assert knn_correct(outputs, labels).tolist() == whole[1].tolist()
    assert 0.2 < whole[0].mean() < 0.9
    assert whole[1].mean() > 0.6
