"""Passes or fails what was found now by the figures and intervals of a bundle."""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.verify.bundle import Counted, Manifest, Quality
from vitsearch_agent.verify.checksums import SIGNATURE
from vitsearch_agent.verify.metrics import Estimate, wilson
from vitsearch_agent.verify.model_runner import Measured
from vitsearch_agent.verify.signature import SignatureVerdict
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.metrics import DEVICE_METRICS, Figure
from vitsearch_agent.wire.paired import ReferenceTimes

PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"


OF_FILES = ("files", "signature")
"""Checks for which the model does not run."""
_OF_THIS_MACHINE = ("runtime_unavailable", "spawn")
_SHOWN = 10

SAME_COSINE = 0.999
"""The least cosine of an embedding to the one shipped. Other processors round otherwise, in int8 most; a vector that is
off by 4 % of its length has this cosine."""
SAME_OUTPUTS = 0.02
"""The largest difference of outputs to those shipped, as a share of the largest of these: two steps of an output in
int8, whose step is 1/127 of it."""
SAME_POSITIONS = 0.98
"""The least share of the positions of maps that have the class shipped. Where two classes are as likely, as along the
edges of things, other processors may choose the other one."""
ROUNDING = {"cosine": 1 - SAME_COSINE, "neighbours": 0.005}
"""How far below its interval the mean of a quality may be. That of images which all agree with the reference has no
width, and other processors round otherwise: every image by SAME_COSINE, or one of 200 neighbours."""

DISTURBED = ("contended", "throttled", "sustained_throttling", "swapped", "warm_start", "unverified_device")
"""Flags of a measurement that is no measure of the model."""


class Check(NamedTuple):
    """One thing that was looked at: `outcome` is PASSED, FAILED or NOT_JUDGED, `message` what was found."""

    name: str
    outcome: str
    message: str

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())


UNJUDGED_SIGNATURE = Check("signature", NOT_JUDGED, f"{SIGNATURE} is there; --signers FILE judges it")


class ImageCounts(NamedTuple):
    """How many of `n` images of `source` are classified correctly now. `same` of them get the class that the model of
    the bundle gave them that it is compared with; None where that classified other images."""

    source: str
    n: int
    correct: int
    same: Optional[int] = None


def files(listed: int, wrong: List[str]) -> Check:
    """Judge the checksums."""
    if wrong:
        advice = "; delete what was added" if any(text.endswith(" was added") for text in wrong) else ""
        return Check("files", FAILED, f"not the {listed} files that were shipped: {shown(wrong)}{advice}")
    return Check("files", PASSED, f"{listed} files have the checksums that they were shipped with")


def shown(wrong: List[str]) -> str:
    """Return what is wrong with the files of a bundle, as one line that stays readable."""
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return "; ".join(wrong[:_SHOWN] + more)


def signature(verdict: SignatureVerdict) -> Check:
    """Judge the signature of the checksums."""
    return Check("signature", PASSED if verdict.good else FAILED, verdict.reason)


def not_run(name: str, failure: MeasurementFailed) -> Check:
    """The check of what could not be found: it says nothing about the bundle where its runtime is missing here."""
    outcome = NOT_JUDGED if failure.kind in _OF_THIS_MACHINE else FAILED
    return Check(name, outcome, f"{failure.kind}: {failure}")


def unreadable(damage: str) -> Check:
    """The check of a zip from which no files come."""
    return Check("files", FAILED, damage)


def accuracy(counts: ImageCounts, shipped: Counted) -> Check:
    """Judge an accuracy: it fails below the 95 % interval (Wilson) of the shipped one. On other images its own interval
    counts too: a few of them say little."""
    low, _ = wilson(shipped.correct, shipped.n)
    best = counts.correct / counts.n if counts.same is not None else wilson(counts.correct, counts.n)[1]
    message = f"{_counts(counts)}; shipped: {_shipped(shipped)} on {shipped.n} {shipped.split} images"
    message += _classes(counts, "when shipped")
    return Check("accuracy", PASSED if best >= low else FAILED, message)


def baseline_accuracy(counts: ImageCounts, baseline: Counted) -> Check:
    """Judge an accuracy by that of an earlier bundle. On the same images it fails below the interval of the earlier
    one; on others, where chance is in both, it fails if its own interval is below that."""
    low, _ = wilson(baseline.correct, baseline.n)
    if counts.same is None:
        _, best = wilson(counts.correct, counts.n)
        where = f"on {baseline.n} {baseline.split} images of its own"
    else:
        best = counts.correct / counts.n
        where = "on the same images"
    message = f"{_counts(counts)}; the baseline: {_shipped(baseline)} {where}{_classes(counts, 'from the baseline')}"
    return Check("baseline accuracy", PASSED if best >= low else FAILED, message)


def _counts(counts: ImageCounts) -> str:
    return f"{counts.correct} of {counts.n} correct ({counts.correct / counts.n:.4f}) of {counts.source}"


def _shipped(counted: Counted) -> str:
    low, high = wilson(counted.correct, counted.n)
    return f"{counted.correct / counted.n:.4f} ({low:.4f} to {high:.4f})"


def _classes(counts: ImageCounts, other: str) -> str:
    """How many images get another class than the `other` model gave them, if that is known."""
    if counts.same is None:
        return ""
    differ = counts.n - counts.same
    if not differ:
        return f"; every image gets the same class as {other}"
    return f"; {differ} {'image gets' if differ == 1 else 'images get'} another class than {other}"


def quality(name: str, now: Estimate, source: str, shipped: Quality, split: str) -> Check:
    """Judge a quality of a task on the images that the shipped one is of: it fails below the 95 % interval of that."""
    message = f"mean {now.value:.4f} on {source}; shipped: {_quality(shipped)} on {shipped.n} {split} images"
    if shipped.low is None:
        return Check(name, NOT_JUDGED, f"{message}; it has no interval to judge by")
    return Check(name, PASSED if now.value >= shipped.low - ROUNDING.get(name, 0.0) else FAILED, message)


def baseline_quality(name: str, now: Estimate, baseline: Quality, same_images: bool) -> Check:
    """Judge a quality by that of an earlier bundle, on the same images or on others as `baseline_accuracy`."""
    best = now.value if same_images or now.high is None else now.high
    where = "on the same images" if same_images else f"on {baseline.n} images of its own"
    message = f"mean {now.value:.4f}; the baseline: {_quality(baseline)} {where}"
    if baseline.low is None:
        return Check(f"baseline {name}", NOT_JUDGED, f"{message}; it has no interval to judge by")
    is_as_good = best >= baseline.low - ROUNDING.get(name, 0.0)
    return Check(f"baseline {name}", PASSED if is_as_good else FAILED, message)


def same_embeddings(cosines: Any) -> Check:
    """Judge the cosines (n,) of the embeddings now to those shipped."""
    n, differ, worst = len(cosines), int((cosines < SAME_COSINE).sum()), int(cosines.argmin())
    if differ:
        images = f"{differ} of {n} images {'gets' if differ == 1 else 'get'}"
        message = f"{images} another output than when shipped: cosine below {SAME_COSINE:g}, the worst"
        return Check("outputs", FAILED, f"{message} {cosines[worst]:.4f} (image {worst})")
    least = f"least cosine {cosines[worst]:.6f}"
    return Check("outputs", PASSED, f"every image gets the output that it was shipped with: {least}")


def same_outputs(difference: float, n: int) -> Check:
    """Judge the largest difference of the outputs of `n` images to those shipped, as a share of the largest one."""
    message = f"the outputs of {n} images differ from those shipped by at most {difference:.2g} of the largest"
    is_same = difference <= SAME_OUTPUTS
    return Check(
        "outputs", PASSED if is_same else FAILED, message if is_same else f"{message}; allowed: {SAME_OUTPUTS}"
    )


def same_maps(share: float, n: int) -> Check:
    """Judge the share of the positions of the maps of `n` images that have the class that they were shipped with."""
    message = f"{100 * share:.2f} % of the positions of {n} maps have the class that they were shipped with"
    is_same = share >= SAME_POSITIONS
    return Check(
        "outputs", PASSED if is_same else FAILED, message if is_same else f"{message}; least: {SAME_POSITIONS}"
    )


def not_finite_outputs(count: int, n: int) -> Check:
    """The check of outputs that are no numbers."""
    return Check("outputs", FAILED, f"NaN or infinity among the outputs of {count} of {n} images")


def unknown_task(kind: str, shipped: Mapping[str, Quality]) -> Check:
    """The line on metrics that only the search computes."""
    shown = ", ".join(f"{name} {_quality(shipped[name])}" for name in sorted(shipped)[:_SHOWN])
    shown = f"; shipped: {shown}" if shown else ""
    return Check("metrics", NOT_JUDGED, f"the metrics of the task {kind} are not computed here{shown}")


def _quality(shipped: Quality) -> str:
    if shipped.low is None or shipped.high is None:
        return f"{shipped.value:.4f}"
    return f"{shipped.value:.4f} ({shipped.low:.4f} to {shipped.high:.4f})"


def figures(
    measured: Measured, shipped: Manifest, prefix: str = "", times: Optional[ReferenceTimes] = None
) -> Iterator[Check]:
    """Judge each figure of a bundle: one that has an interval fails when its value now is worse by more than both
    intervals explain. Figures of another processor, of an emulated device, and without an interval are not judged, nor
    are times of a run of other numbers of images.
    `times` are those of the references where the bundle was measured beside others: in another runtime or with another
    number of threads."""
    reason = _not_comparable(measured, shipped)
    now = figures_of(measured.measurement, _same_references(measured.measurement, shipped, times))
    for name, before in sorted(shipped.figures.items()):
        figure = now.get(name)
        if figure is None:
            metric = DEVICE_METRICS.get(name)
            why = (metric and metric.reason(measured.measurement)) or "it was not measured now"
            yield Check(prefix + name, NOT_JUDGED, f"{why}; shipped: {_text(before)}")
            continue
        message = f"{_text(figure)}; shipped: {_text(before)}"
        why_not = reason or _other_run(name, measured.measurement, shipped)
        if why_not is not None:
            yield Check(prefix + name, NOT_JUDGED, f"{message}; {why_not}")
        elif before.low is None or before.high is None:
            yield Check(prefix + name, NOT_JUDGED, f"{message}; it has no interval to judge by")
        else:
            best = figure.value if figure.low is None else figure.low
            yield _judged(prefix + name, best <= before.high, message, measured.measurement)


def _same_references(
    measurement: Measurement, shipped: Manifest, otherwise: Optional[ReferenceTimes]
) -> Optional[ReferenceTimes]:
    """Return the reference times of a bundle if they are of the references that ran beside this measurement."""
    protocol, measured = shipped.protocol, measurement.protocol
    is_same = shipped.runtime == measurement.runtime and protocol.threads == measured.threads
    return shipped.reference_times if is_same and protocol.reference == measured.reference else otherwise


def is_disturbed(measurement: Measurement) -> bool:
    return any(flag in measurement.flags for flag in DISTURBED)


def _judged(name: str, is_as_good: bool, message: str, measurement: Measurement) -> Check:
    """A figure that is worse fails, unless the measurement says itself that it was disturbed."""
    disturbed = ", ".join(flag for flag in DISTURBED if flag in measurement.flags)
    if not is_as_good and disturbed:
        return Check(name, NOT_JUDGED, f"{message}; the device was disturbed ({disturbed}): verify again")
    return Check(name, PASSED if is_as_good else FAILED, message)


def figures_of(measurement: Measurement, times: Optional[ReferenceTimes]) -> Mapping[str, Figure]:
    """Return the figures of a measurement. Those relative to reference models are shown by the `times` that the shipped
    figures were shown by, so that both are on one scale."""
    if measurement.paired is not None and times is not None:
        measurement = measurement._replace(paired=measurement.paired._replace(times=times))
    figures = {name: metric.figure(measurement) for name, metric in DEVICE_METRICS.items() if not metric.is_raw}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _not_comparable(measured: Measured, shipped: Manifest) -> Optional[str]:
    """Return why figures of this measurement say nothing about those of a bundle, None if they do."""
    if shipped.device.kind == "emulated":
        return f"the shipped figures are those of {shipped.device.name}, an emulated device"
    before, here = shipped.device.environment, measured.environment
    for key in ("board", "cpu"):
        if before.get(key) != here.get(key):
            return f"they are those of {shipped.device.name}, another {key}: {before.get(key)}, here {here.get(key)}"
    return None


def _other_run(name: str, measurement: Measurement, shipped: Manifest) -> Optional[str]:
    """Return why the time of a run says nothing about that of a bundle, None if it does or the figure is no time."""
    if measurement.batch == shipped.batch or not DEVICE_METRICS[name].is_of_a_run:
        return None
    return f"that is the time of a run of {_images(shipped.batch)}, this of {_images(measurement.batch)}"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _text(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g}"
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
