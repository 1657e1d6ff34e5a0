"""The metrics of maps of classes, computed from a model's outputs and masks: small functions on NumPy arrays.

A mask has a class index for each pixel, or `IGNORED`: such a pixel counts for nothing. A model's map may be smaller
than the mask; each pixel of the mask then has the class of the nearest pixel of the map, as in a program that writes
the class of the largest output and scales the picture.
"""

from typing import Any, NamedTuple, Tuple

from vitsearch_agent.verify.metrics import Estimate

IGNORED = 255
"""The value of a pixel of a mask that nothing is learned from and nothing is judged by."""
RESAMPLES = 1000
"""Of the images, for an interval."""
SEED = 0
_QUANTILES = (2.5, 97.5)


class Overlaps(NamedTuple):
    """Pixels of each image (rows) and class (columns), int64 (n, classes): of the class in map and mask, in the map,
    and in the mask; pixels that are ignored are in none."""

    both: Any
    predicted: Any
    true: Any


def overlaps(maps: Any, masks: Any, classes: int) -> Overlaps:
    """Count the pixels on which maps and masks agree.

    Args:
        maps: (n, h, w) integers, the class that a model gives each pixel; one that is no class is never right.
        masks: (n, H, W) uint8.
        classes: Their number.

    Returns:
        The counts of each image.
    """
    import numpy

    n = len(masks)
    counts = numpy.zeros((3, n, classes), dtype=numpy.int64)
    rows, columns = (nearest(*sizes) for sizes in zip(maps.shape[1:], masks.shape[1:]))
    for image in range(n):
        counted = masks[image] != IGNORED
        predicted = maps[image][rows][:, columns][counted]
        true = masks[image][counted]
        for index, values in enumerate((true[predicted == true], predicted, true)):
            is_class = (values >= 0) & (values < classes)
            counts[index, image] = numpy.bincount(values[is_class].astype(numpy.int64), minlength=classes)
    return Overlaps(*counts)


def nearest(size: int, wanted: int) -> Any:
    """Return the index of the nearest of `size` pixels for each of `wanted` pixels that take the same room."""
    import numpy

    return ((numpy.arange(wanted) + 0.5) * size / wanted).astype(numpy.int64)


def class_ious(counted: Overlaps) -> Any:
    """Return the intersection over union of each class over all images.

    Args:
        counted: Of the images.

    Returns:
        (classes,) float64; not a number for a class that neither a map nor a mask has.
    """
    return _ious(*(part.sum(axis=0) for part in counted))


def class_intervals(counted: Overlaps) -> Tuple[Any, Any]:
    """Return the 95 % intervals of `class_ious`, by resampling the images.

    Args:
        counted: Of the images.

    Returns:
        The lower and the upper ends, each (classes,); not a number as there.
    """
    import numpy

    with numpy.errstate(all="ignore"):
        low, high = numpy.nanpercentile(_resampled(counted), _QUANTILES, axis=0)
    return low, high


def mean_iou(counted: Overlaps) -> Estimate:
    """Return the mean intersection over union of the classes, with its interval by resampling the images.

    Args:
        counted: Of n images, n at least 1, of which one has a pixel that counts.

    Returns:
        The mean over the classes that a map or a mask has; without an interval for one image.
    """
    import numpy

    return _estimate(counted, lambda ious: numpy.nanmean(ious, axis=-1))


def least_iou(counted: Overlaps) -> Estimate:
    """Return the least of the intersections over union of the classes; arguments and result as for `mean_iou`."""
    import numpy

    return _estimate(counted, lambda ious: numpy.nanmin(ious, axis=-1))


def pixel_accuracy(counted: Overlaps) -> Estimate:
    """Return the share of the pixels that are right; arguments and result as for `mean_iou`."""
    import numpy

    both, true = counted.both.sum(axis=1), counted.true.sum(axis=1)
    value, n = both.sum() / true.sum(), len(both)
    if n == 1:
        return Estimate(float(value), None, None, n)
    weights = _weights(n)
    return _within(float(value), (weights @ both) / numpy.maximum(weights @ true, 1), n)


def image_ious(counted: Overlaps) -> Any:
    """Return the mean intersection over union of each image alone, (n,); not a number where no pixel counts."""
    import warnings

    import numpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of images without a class
        return numpy.nanmean(_ious(*counted), axis=1)


def _estimate(counted: Overlaps, of_classes: Any) -> Estimate:
    value, n = float(of_classes(class_ious(counted))), len(counted.both)
    return Estimate(value, None, None, n) if n == 1 else _within(value, of_classes(_resampled(counted)), n)


def _within(value: float, resampled: Any, n: int) -> Estimate:
    """Return a value with the interval of its resamples, which it is inside of."""
    import numpy

    low, high = (float(end) for end in numpy.nanpercentile(resampled, _QUANTILES))
    return Estimate(value, min(low, value), max(high, value), n)


def _resampled(counted: Overlaps) -> Any:
    """Return the intersections over union of resampled images, (RESAMPLES, classes)."""
    weights = _weights(len(counted.both))
    return _ious(*(weights @ part for part in counted))


def _weights(n: int) -> Any:
    """Return how often each image is in each resample, (RESAMPLES, n); the same ones every time."""
    import numpy

    return numpy.random.RandomState(SEED).multinomial(n, numpy.full(n, 1 / n), size=RESAMPLES).astype(numpy.float64)


def _ious(both: Any, predicted: Any, true: Any) -> Any:
    import numpy

    union = numpy.asarray(predicted + true - both, dtype=numpy.float64)
    with numpy.errstate(all="ignore"):
        return numpy.where(union > 0, both / union, numpy.nan)
