"""Verifies a bundle: its files, then its outputs, then its measurements; and compares it with an earlier bundle."""

import os
import tempfile
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from vitsearch_agent import runtimes
from vitsearch_agent.errors import DamagedBundle, InvalidRequest, MeasurementFailed
from vitsearch_agent.verify import bundle as bundles
from vitsearch_agent.verify import checks, checksums, images, likeness, segments
from vitsearch_agent.verify.bundle import CLASSIFICATION, SEGMENTATION, Bundle
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED, Check, ImageCounts
from vitsearch_agent.verify.images import Images
from vitsearch_agent.verify.metrics import predicted_classes
from vitsearch_agent.verify.model_runner import ModelRunner
from vitsearch_agent.verify.signature import is_there, judge
from vitsearch_agent.wire.restriction import Restriction

MakeRunner = Callable[[Bundle], ModelRunner]
ONLY_CHECKSUMS = "only checksums judged"
ATTEMPTS = 3
"""Measurements until none of its figures fails."""


class VerifyOptions(NamedTuple):
    """What to verify: on the images of the folder `data` (None: on those in the bundle), with the measurements unless
    `measures` is False, against the bundle in the folder `baseline`, and signed by one of the file `signers`."""

    data: Optional[str] = None
    measures: bool = True
    baseline: Optional[str] = None
    signers: Optional[str] = None


class Report(NamedTuple):
    """The checks of the bundle called `name`, and what its model was kept from while it ran."""

    name: str
    checks: Tuple[Check, ...]
    restrictions: Tuple[Restriction, ...] = ()

    @property
    def verdict(self) -> str:
        """FAILED if a check has failed, PASSED if one that needs the model has passed, else ONLY_CHECKSUMS."""
        if any(check.outcome == FAILED for check in self.checks):
            return FAILED
        ran = any(check.outcome == PASSED and check.name not in checks.OF_FILES for check in self.checks)
        return PASSED if ran else ONLY_CHECKSUMS

    def to_json(self) -> Dict[str, Any]:
        return {
            "bundle": self.name,
            "passed": self.verdict == PASSED,
            "verdict": self.verdict,
            "checks": [check.to_json() for check in self.checks],
            "restrictions": [restriction.to_json() for restriction in self.restrictions],
        }


def verify(folder: str, make_runner: MakeRunner, options: VerifyOptions = VerifyOptions()) -> Report:  # noqa: B008 - immutable
    """Verify the bundle in a folder. What is not the shipped file is not run.

    InvalidRequest for what is no bundle, and for wrong images of `options.data`.
    """
    listed, wrong = bundles.damaged(folder)
    results = [checks.files(listed, wrong), *_signature(folder, options.signers)]
    if any(check.outcome == FAILED for check in results):
        return Report(os.path.basename(os.path.normpath(folder)), tuple(results))
    bundle = bundles.read(folder)
    baseline = None if options.baseline is None else _intact(options.baseline, bundle)
    if options.data is not None and bundle.manifest.task.kind != CLASSIFICATION:
        raise InvalidRequest(
            f"--data {options.data}: only a classifier is judged by other images; the task of this bundle is "
            f"{bundle.manifest.task.kind}"
        )
    runner = make_runner(bundle)
    if bundle.manifest.task.kind == CLASSIFICATION:
        results.extend(_accuracy(bundle, runner, options.data, baseline))
    elif bundle.manifest.task.kind == SEGMENTATION:
        results.extend(segments.judged(bundle, runner, baseline))
    else:
        results.extend(likeness.judged(bundle, runner, baseline))
    if options.measures:
        results.extend(_figures(bundle, runner, baseline))
    return Report(bundle.manifest.name, tuple(results), runner.restrictions)


def _signature(folder: str, signers: Optional[str]) -> List[Check]:
    """The check of a signature by a file of signers; without that file, that one is there."""
    if signers is not None:
        return [checks.signature(judge(folder, checksums.read_list(folder), signers))]
    return [checks.UNJUDGED_SIGNATURE] if is_there(folder) else []


def _intact(folder: str, bundle: Bundle) -> Bundle:
    """The bundle to compare a bundle with; MeasurementFailed if its files were changed, InvalidRequest if it is for
    another task."""
    try:
        _, wrong = bundles.damaged(folder)
    except DamagedBundle as damage:
        wrong = [str(damage)]
    if wrong:
        raise MeasurementFailed("incompatible_artifact", f"--baseline {folder}: {checks.shown(wrong)}")
    baseline = bundles.read(folder)
    kinds = baseline.manifest.task.kind, bundle.manifest.task.kind
    if kinds[0] != kinds[1]:
        raise InvalidRequest(f"--baseline {folder}: its task is {kinds[0]}, that of the bundle is {kinds[1]}")
    return baseline


def _accuracy(bundle: Bundle, runner: ModelRunner, data: Optional[str], baseline: Optional[Bundle]) -> List[Check]:
    shipped, runtime = bundle.manifest.accuracy, bundle.manifest.runtime
    if not runtimes.create(runtime).gives_outputs:
        return [Check("accuracy", NOT_JUDGED, f"{runtime} reports no outputs, so it cannot classify images")]
    if data is not None:
        chosen: Images = images.of_folder(data, bundle)
    elif bundle.manifest.images is not None:
        chosen, shipped = images.of_bundle(bundle), bundle.manifest.images
    else:
        return [Check("accuracy", NOT_JUDGED, "the bundle has no images (--no-images): give a folder with --data")]
    assert shipped is not None
    try:
        classes, counts = _classified(bundle, runner, chosen)
    except MeasurementFailed as failure:
        return [checks.not_run("accuracy", failure)]
    judged = [checks.accuracy(_beside(counts, classes, chosen.expected), shipped)]
    if baseline is not None:
        judged.append(_beside_baseline(counts, classes, bundle, baseline, chosen))
    return judged


def _classified(bundle: Bundle, runner: ModelRunner, chosen: Images) -> Tuple[Any, ImageCounts]:
    """The class of each image (n,), and how many are correct."""
    import numpy

    labels = numpy.asarray(chosen.labels)
    classes = []
    with tempfile.TemporaryDirectory(prefix="vitsearch-images-") as folder:
        for chunk in images.chunks(chosen, bundle, folder):
            outputs = runner.outputs(chunk)
            _check_classes(outputs, labels[chunk.rows])
            classes.append(predicted_classes(outputs))
    every = numpy.concatenate(classes)
    return every, ImageCounts(chosen.source, chosen.n, int((every == labels).sum()))


def _check_classes(outputs: Any, labels: Any) -> None:
    """Refuse outputs that are not those of a classifier with these labels."""
    if outputs.ndim != 2:
        shape = list(outputs.shape)
        raise MeasurementFailed("incompatible_artifact", f"expected logits, {len(labels)} x classes, got {shape}")
    low, high, classes = int(labels.min()), int(labels.max()), outputs.shape[1]
    if low < 0 or high >= classes:
        raise MeasurementFailed(
            "incompatible_artifact", f"the labels go from {low} to {high}, the model has {classes} classes"
        )


def _beside(counts: ImageCounts, classes: Any, expected: Optional[Any]) -> ImageCounts:
    """What was found, with the number of images that have the expected class."""
    return counts if expected is None else counts._replace(same=int((classes == expected).sum()))


def _beside_baseline(counts: ImageCounts, classes: Any, bundle: Bundle, baseline: Bundle, chosen: Images) -> Check:
    """The check against an earlier bundle: on the same images where both bundles hold these and no others are given."""
    earlier = baseline.manifest
    assert earlier.accuracy is not None
    if chosen.expected is None or earlier.images is None or not bundles.have_equal_images(bundle, baseline):
        return checks.baseline_accuracy(counts, earlier.accuracy)
    expected = images.of_bundle(baseline).expected
    return checks.baseline_accuracy(_beside(counts, classes, expected), earlier.images)


def _figures(bundle: Bundle, runner: ModelRunner, baseline: Optional[Bundle]) -> List[Check]:
    """The checks of a measurement. One that fails or was disturbed is taken again: what is slower is slower every time.
    The last one that was not disturbed counts."""
    runtime = bundle.manifest.runtime
    if runtimes.create(runtime).ignores_model:
        return [Check("measurement", NOT_JUDGED, f"{runtime} does not run the model")]
    kept: List[Check] = []
    for _ in range(ATTEMPTS):
        try:
            measured = runner.measure()
        except MeasurementFailed as failure:
            return [checks.not_run("measurement", failure)]
        results = list(checks.figures(measured, bundle.manifest))
        if baseline is not None:
            results.extend(checks.figures(measured, baseline.manifest, "baseline ", bundle.manifest.reference_times))
        is_disturbed = checks.is_disturbed(measured.measurement)
        if not kept or not is_disturbed:
            kept = results
        if not is_disturbed and all(check.outcome != FAILED for check in results):
            return results
    return kept
