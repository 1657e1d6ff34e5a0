"""What is judged of a model that is no classifier: its outputs beside those of its reference, and those shipped."""

import tempfile
from typing import Any, List, Optional

from vitsearch_agent import runtimes
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.verify import bundle as bundles
from vitsearch_agent.verify import checks, images, metrics
from vitsearch_agent.verify.bundle import EMBEDDING, OUTPUTS, QUALITIES, REFERENCE, Bundle, Qualities
from vitsearch_agent.verify.checks import NOT_JUDGED, Check
from vitsearch_agent.verify.images import Images
from vitsearch_agent.verify.metrics import Estimate
from vitsearch_agent.verify.model_runner import ModelRunner


def judged(bundle: Bundle, runner: ModelRunner, baseline: Optional[Bundle]) -> List[Check]:
    """The checks of the outputs for the images in a bundle; InvalidRequest for other arrays than those of its task."""
    manifest = bundle.manifest
    qualities, kind = manifest.qualities, manifest.task.kind
    assert qualities is not None
    if not runtimes.create(manifest.runtime).gives_outputs:
        return [Check("outputs", NOT_JUDGED, f"{manifest.runtime} reports no outputs")]
    if qualities.images is None:
        return [Check("outputs", NOT_JUDGED, "the bundle has no images (--no-images)")]
    n, axes = qualities.images, 2 if kind == EMBEDDING else None
    chosen, shipped = images.without_labels(bundle, n), images.outputs_of(bundle, OUTPUTS, n, axes)
    reference = _reference(bundle, shipped) if kind == EMBEDDING else None
    try:
        outputs = _outputs(bundle, runner, chosen, shipped)
    except MeasurementFailed as failure:
        return [checks.not_run("outputs", failure)]
    not_finite = images.not_finite(outputs)
    if not_finite:
        return [checks.not_finite_outputs(not_finite, n)]
    if reference is None:
        return [checks.same_outputs(_difference(outputs, shipped), n), checks.unknown_task(kind, qualities.on_images)]
    results = [checks.same_embeddings(metrics.cosines(outputs, shipped))]
    for name in QUALITIES[EMBEDDING]:
        now = _estimate(name, outputs, reference)
        results.append(checks.quality(name, now, chosen.source, qualities.on_images[name], qualities.split))
        if baseline is not None and baseline.manifest.qualities is not None:
            results.append(_beside_baseline(name, now, bundle, baseline, baseline.manifest.qualities))
    return results


def _reference(bundle: Bundle, shipped: Any) -> Any:
    """The embeddings of the reference, which the shipped ones are compared with."""
    reference = images.outputs_of(bundle, REFERENCE, len(shipped), 2)
    if reference.shape != shipped.shape:
        raise InvalidRequest(
            f"{REFERENCE}: shape {reference.shape}, but that of {OUTPUTS} is {shipped.shape}: they do not compare"
        )
    return reference


def _outputs(bundle: Bundle, runner: ModelRunner, chosen: Images, shipped: Any) -> Any:
    """The outputs for the images now, which have the shape of the shipped ones: so they fit the memory as well."""
    import numpy

    outputs = numpy.empty(shipped.shape, "f4")
    with tempfile.TemporaryDirectory(prefix="vitsearch-images-") as folder:
        for chunk in images.chunks(chosen, bundle, folder):
            part = runner.outputs(chunk)
            if part.shape[1:] != shipped.shape[1:]:
                shapes = list(part.shape[1:]), list(shipped.shape[1:])
                raise MeasurementFailed(
                    "incompatible_artifact", "each image gets outputs of shape {}, shipped were {}".format(*shapes)
                )
            outputs[chunk.rows] = part
    return outputs


def _difference(outputs: Any, shipped: Any) -> float:
    """The largest difference, as a share of the largest output shipped."""
    import numpy

    largest = float(numpy.abs(shipped).max())
    difference = float(numpy.abs(outputs.astype("f8") - shipped).max())
    return difference / largest if largest else float("inf") if difference else 0.0


def _estimate(name: str, outputs: Any, reference: Any) -> Estimate:
    figure = metrics.cosines if name == "cosine" else metrics.neighbour_agreement
    return metrics.mean_interval(figure(outputs, reference))


def _beside_baseline(name: str, now: Estimate, bundle: Bundle, baseline: Bundle, earlier: Qualities) -> Check:
    """The check against an earlier bundle: on the same images and reference where both bundles hold these."""
    is_same = earlier.images is not None and bundles.have_equal_images(bundle, baseline)
    return checks.baseline_quality(name, now, (earlier.on_images if is_same else earlier.on_split)[name], is_same)
