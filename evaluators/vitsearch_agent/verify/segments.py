"""What is judged of a model that gives a class for each pixel: its maps beside those shipped, and beside the masks."""

import tempfile
from typing import Any, Callable, List, Mapping, Optional, Tuple

from vitsearch_agent import runtimes
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.verify import bundle as bundles
from vitsearch_agent.verify import checks, images, segmentation
from vitsearch_agent.verify.bundle import PREDICTIONS, TRUTH, Bundle, Qualities
from vitsearch_agent.verify.checks import NOT_JUDGED, Check
from vitsearch_agent.verify.images import Images
from vitsearch_agent.verify.metrics import Estimate
from vitsearch_agent.verify.model_runner import ModelRunner
from vitsearch_agent.verify.segmentation import Overlaps

_METRICS: Mapping[str, Callable[[Overlaps], Estimate]] = {
    "mean_iou": segmentation.mean_iou,
    "pixel_accuracy": segmentation.pixel_accuracy,
}


def judged(bundle: Bundle, runner: ModelRunner, baseline: Optional[Bundle]) -> List[Check]:
    """The checks of the maps for the images in a bundle; InvalidRequest for other arrays than those of its task."""
    manifest = bundle.manifest
    qualities = manifest.qualities
    assert qualities is not None
    if not runtimes.create(manifest.runtime).gives_outputs:
        return [Check("outputs", NOT_JUDGED, f"{manifest.runtime} reports no outputs")]
    if qualities.images is None:
        return [Check("outputs", NOT_JUDGED, "the bundle has no images (--no-images)")]
    n = qualities.images
    chosen, shipped = images.without_labels(bundle, n), images.maps_of(bundle, PREDICTIONS, n)
    masks = images.maps_of(bundle, TRUTH, n)
    try:
        maps, not_finite = _maps(bundle, runner, chosen, shipped)
    except MeasurementFailed as failure:
        return [checks.not_run("outputs", failure)]
    if not_finite:
        return [checks.not_finite_outputs(not_finite, n)]
    results = [checks.same_maps(float((maps == shipped).mean()), n)]
    counted = segmentation.overlaps(maps, masks, len(bundle.labels))
    for name, metric in _METRICS.items():
        now = metric(counted)
        results.append(checks.quality(name, now, chosen.source, qualities.on_images[name], qualities.split))
        if baseline is not None and baseline.manifest.qualities is not None:
            results.append(_beside_baseline(name, now, bundle, baseline, baseline.manifest.qualities))
    return results


def _maps(bundle: Bundle, runner: ModelRunner, chosen: Images, shipped: Any) -> Tuple[Any, int]:
    """The class of each position of the maps now, uint8 (n, height, width), and how many images have an output that
    is no number."""
    import numpy

    maps, not_finite = numpy.empty(shipped.shape, numpy.uint8), 0
    with tempfile.TemporaryDirectory(prefix="vitsearch-images-") as folder:
        for chunk in images.chunks(chosen, bundle, folder):
            outputs = runner.outputs(chunk)
            expected = (len(bundle.labels), *shipped.shape[1:])
            if outputs.shape[1:] != expected:
                shapes = list(outputs.shape[1:]), list(expected)
                raise MeasurementFailed(
                    "incompatible_artifact", "each image gets outputs of shape {}, expected are {}".format(*shapes)
                )
            not_finite += images.not_finite(outputs)
            maps[chunk.rows] = outputs.argmax(axis=1)
    return maps, not_finite


def _beside_baseline(name: str, now: Estimate, bundle: Bundle, baseline: Bundle, earlier: Qualities) -> Check:
    """The check against an earlier bundle: on the same images and masks where both bundles hold these."""
    is_same = earlier.images is not None and bundles.have_equal_images(bundle, baseline)
    return checks.baseline_quality(name, now, (earlier.on_images if is_same else earlier.on_split)[name], is_same)
