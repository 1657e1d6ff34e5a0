"""The metrics of maps of classes, beside versions of them that anyone can follow."""

import math

import pytest

from vitsearch_agent.verify.segmentation import (
    IGNORED,
    class_intervals,
    class_ious,
    image_ious,
    least_iou,
    mean_iou,
    nearest,
    overlaps,
    pixel_accuracy,
)

numpy = pytest.importorskip("numpy")
CLASSES = 4


def drawn(seed, n=6, ignored=0.1):
    """Maps of 5 x 3 pixels and masks of 10 x 6, of which a share is ignored."""
    draw = numpy.random.RandomState(seed)
    masks = draw.randint(0, CLASSES, (n, 10, 6)).astype(numpy.uint8)
    masks[draw.rand(*masks.shape) < ignored] = IGNORED
    return draw.randint(0, CLASSES, (n, 5, 3)), masks


def pixels(maps, masks):
    """Every pixel that counts, as (image, class of the map, class of the mask)."""
    for image in range(len(masks)):
        for row in range(masks.shape[1]):
            for column in range(masks.shape[2]):
                true = int(masks[image, row, column])
                if true != IGNORED:
                    yield image, int(maps[image, row // 2, column // 2]), true


def iou(found, name):
    both = sum(predicted == true == name for _, predicted, true in found)
    either = sum(name in (predicted, true) for _, predicted, true in found)
    return both / either if either else math.nan


@pytest.mark.parametrize("none", [-1, IGNORED, CLASSES])
def test_a_pixel_that_gets_no_class_is_never_right(none):
    """An output that is no number gives -1 on a device."""
    maps, masks = drawn(0, ignored=0.0)
    right = overlaps(maps, masks, CLASSES)
    missed = overlaps(numpy.full_like(maps, none), masks, CLASSES)
    assert not missed.both.any()
    assert not missed.predicted.any()
    assert (missed.true == right.true).all()


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_those_of_counted_pixels(seed):
    maps, masks = drawn(seed)
    counted, found = overlaps(maps, masks, CLASSES), list(pixels(maps, masks))
    expected = [iou(found, name) for name in range(CLASSES)]
    assert class_ious(counted) == pytest.approx(expected)
    assert mean_iou(counted).value == pytest.approx(sum(expected) / CLASSES)
    assert least_iou(counted).value == pytest.approx(min(expected))
    right = [predicted == true for _, predicted, true in found]
    assert pixel_accuracy(counted).value == pytest.approx(sum(right) / len(right))


def test_a_map_that_is_the_mask_is_perfect():
    _, masks = drawn(0)
    counted = overlaps(masks, masks, CLASSES)
    for metric in (mean_iou, least_iou, pixel_accuracy):
        assert metric(counted)[:3] == (1.0, 1.0, 1.0)


def test_ignored_pixels_count_for_nothing():
    maps, masks = drawn(1, ignored=0.0)
    changed = maps.copy()
    changed[:, 0, 0] = (changed[:, 0, 0] + 1) % CLASSES
    masks[:, :2, :2] = IGNORED
    assert numpy.array_equal(overlaps(maps, masks, CLASSES), overlaps(changed, masks, CLASSES))


def test_a_class_that_is_nowhere_does_not_count():
    maps, masks = numpy.zeros((2, 2, 2), int), numpy.zeros((2, 2, 2), numpy.uint8)
    counted = overlaps(maps, masks, CLASSES)
    assert math.isnan(class_ious(counted)[1])
    assert mean_iou(counted).value == 1.0


def test_a_class_that_is_missed_counts_as_nothing_right():
    masks = numpy.zeros((1, 2, 2), numpy.uint8)
    masks[0, 0] = 2
    counted = overlaps(numpy.zeros((1, 2, 2), int), masks, CLASSES)
    assert least_iou(counted).value == 0.0
    assert mean_iou(counted).value == pytest.approx((0.5 + 0.0) / 2)


def test_what_is_no_class_is_never_right():
    masks = numpy.zeros((1, 1, 2), numpy.uint8)
    counted = overlaps(numpy.array([[[0, CLASSES + 1]]]), masks, CLASSES)
    assert pixel_accuracy(counted).value == 0.5
    assert class_ious(counted)[0] == 0.5


def test_intervals_hold_the_value_and_narrow_with_the_images():
    widths = []
    for n in (20, 320):
        counted = overlaps(*drawn(3, n), CLASSES)
        for metric in (mean_iou, least_iou, pixel_accuracy):
            value, low, high, count = metric(counted)
            assert low <= value <= high
            assert count == n
        widths.append(mean_iou(counted).high - mean_iou(counted).low)
    assert widths[1] < widths[0] / 2


def test_one_image_has_no_interval():
    counted = overlaps(*drawn(4, 1), CLASSES)
    for metric in (mean_iou, least_iou, pixel_accuracy):
        assert metric(counted)[1:] == (None, None, 1)


def test_the_intervals_of_classes_hold_their_values():
    counted = overlaps(*drawn(5, 40), CLASSES)
    low, high = class_intervals(counted)
    assert (low <= class_ious(counted)).all()
    assert (class_ious(counted) <= high).all()


def test_images_alone():
    maps, masks = drawn(6)
    masks[2] = IGNORED
    each = image_ious(overlaps(maps, masks, CLASSES))
    assert math.isnan(each[2])
    alone = mean_iou(overlaps(maps[:1], masks[:1], CLASSES)).value
    assert each[0] == pytest.approx(alone)


@pytest.mark.parametrize(("size", "wanted", "expected"), [(2, 4, [0, 0, 1, 1]), (4, 2, [1, 3]), (3, 3, [0, 1, 2])])
def test_the_nearest_pixel(size, wanted, expected):
    assert nearest(size, wanted).tolist() == expected
