"""The README.md of a bundle: the model card."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator

from vitsearch.core.caveats.agreement import agreement_text
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.metrics import METRICS, is_quality
from vitsearch.core.plan import plan_text
from vitsearch.ship import examples
from vitsearch.ship.bundled_model import BundledModel, SplitResult
from vitsearch.tasks import CLASSIFICATION
from vitsearch_agent.base import single_file
from vitsearch_agent.base.printable import printable
from vitsearch_agent.verify.bundle import SEGMENTATION
from vitsearch_agent.verify.checksums import SIGNATURE

_ARGUMENTS = {"embedding": "IMAGE IMAGE...", "segmentation": "FOLDER IMAGE..."}
"""Those of `example.py`, by the task."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!])")


def card(model: BundledModel, with_images: bool) -> str:
    """The whole page."""
    parts = (_head, _standing, _quality, _figures, _contexts, _run, _tool, _preprocessing, _made, _licences, _limits)
    sections = ["\n".join(map(printable, part(model))) for part in parts]
    sections.insert(7, "\n".join(map(printable, _verify(model, with_images))))
    return "\n\n".join(filter(None, sections)) + "\n"


def _head(model: BundledModel) -> Iterator[str]:
    plan = model.final.plan
    yield f"# {escaped(model.name)}"
    yield ""
    backbone = f"`{plan.backbone}`"
    whole = f"the unpruned {backbone}, {'fine-tuned and ' if model.final.rung > 0 else ''}exported"
    what = whole if plan.compression.is_identity else f"compressed from {backbone}"
    yield (f"{_purpose(model)}, {what} by vitsearch ({escaped(model.origin)}), as a file for {model.job.runtime}.")
    yield ""
    yield f"    {model.text}"
    if model.task.labels in ("needed", "masks"):
        yield ""
        yield f"Classes: {', '.join(escaped(name) for name in model.data['class_names'][:50])}" + (
            ", ..." if len(model.data["class_names"]) > 50 else ""
        )
    if model.device["kind"] == "emulated":
        yield ""
        yield "**The figures below are those of an EMULATED device: they describe no real one.**"


def _purpose(model: BundledModel) -> str:
    if model.task == CLASSIFICATION:
        return f"An image classifier for {len(model.data['class_names'])} classes"
    if model.task.kind == SEGMENTATION:
        return f"A model that gives each part of an image one of {len(model.data['class_names'])} classes"
    return f"A model for the task {escaped(model.task.kind)}, whose output is called `{model.task.output}`"


def _standing(model: BundledModel) -> Iterator[str]:
    """What there is to say for the choice of this model; nothing for the baseline itself."""
    standing = model.standing
    if standing is None:
        return
    yield "## In its study"
    yield ""
    if standing.baseline is not None:
        unpruned = standing.baseline.metrics
        compared = [_share(name, model, unpruned) for name in standing.objectives if not is_quality(name)]
        qualities = [name for name in standing.objectives if is_quality(name)] or [model.quality]
        compared += [_points(name, model, unpruned) for name in qualities]
        name = escaped(plan_text(standing.baseline.plan))
        yield f"Beside the unpruned baseline ({name}): {'; '.join(filter(None, compared))}."
        yield ""
        for line in standing.baseline.quality_warnings:
            yield f"**On the validation images {escaped(line)}.**"
            yield ""
    which = "Place of the model of the search, before the longer training" if model.final.is_longer else "Place"
    yield f"{which}: {escaped(standing.place)}."


def _share(name: str, model: BundledModel, unpruned: Metrics) -> str | None:
    """A cost as a share of the baseline's; None where one of the two was not measured."""
    own, base = model.metrics.value(name), unpruned.value(name)
    metric = METRICS.get(name)
    if metric is None or own is None or not base:
        return None
    return f"{100 * own / base:.0f} % of its {metric.title} ({own:.4g} of {base:.4g} {metric.unit})"


def _points(name: str, model: BundledModel, unpruned: Metrics) -> str | None:
    own, base = model.validation.metrics.value(name), unpruned.value(name)
    if own is None or base is None:
        return None
    return f"{_change(name, own - base)} of {name} on the validation images ({own:.4f}, baseline {base:.4f})"


def _change(name: str, change: float) -> str:
    """A difference of a quality: shares in points."""
    metric = METRICS[name]
    return f"{100 * change:+.2f} points" if metric.is_share else f"{change:+.4g} {metric.unit}".rstrip()


def _quality(model: BundledModel) -> Iterator[str]:
    yield "## Quality"
    yield ""
    yield "| images | metric | value | 95 % interval |"
    yield "|---|---|---|---|"
    for result in model.results:
        for metric in model.task.metrics:
            figure = result.metrics.figures.get(metric.name)
            if figure is not None:
                value = f"not known: {escaped(figure.reason or '')}" if figure.value is None else f"{figure.value:.4f}"
                yield f"| {result.n} {result.split} | {metric.name} | {value} | {_interval(figure)} |"
    yield ""
    if model.labelled_by is not None:
        yield f"**Here {escaped(agreement_text(model.labelled_by))}.**"
        yield ""
    for result in model.results:
        for line in result.tally.warnings("the model"):
            yield f"**On the {result.split} images {escaped(line)}.**"
            yield ""
    for line in model.warnings:
        yield f"**{escaped(line.rstrip('.'))}.**"
        yield ""
    if model.on_test is None:
        yield "The data has no test images. The search chose by the validation images, so these figures are too good by"
        yield "an unknown amount."
    else:
        yield "The search never uses the test images: a model meets them when it is shipped. The search chooses by the"
        yield f"validation images; {_difference(model.quality, model.on_test, model.validation)}"
    yield ""
    yield "`measurements.json` has all figures" + (
        ", and the counts: which classes the images of each class were taken for."
        if model.task == CLASSIFICATION
        else "."
    )
    if model.final.epochs is not None:
        yield ""
        yield _longer(model)


def _difference(name: str, test: SplitResult, validation: SplitResult) -> str:
    """How far a metric of two sets of images is apart, beside what chance explains."""
    value, other = test.metrics.value(name), validation.metrics.value(name)
    if value is None or other is None:
        return f"{name} is not known of both."
    if value == other:
        return f"on the test images {name} is the same."
    intervals = [result.metrics.intervals.get(name) for result in (test, validation)]
    away = f"on the test images {name} is {_change(name, value - other)} away from that"
    if None in intervals:
        return f"{away}."
    spread = math.hypot(*((high - low) / 2 for low, high in filter(None, intervals)))
    verdict = "which chance may explain" if abs(value - other) <= spread else "which is more than chance explains"
    return f"{away}, {verdict} (±{_change(name, spread)[1:]})."


def _longer(model: BundledModel) -> str:
    final = model.final
    what = (
        f"A training of {final.epochs} epochs gave {final.metric} {final.after:.4f} on the validation images, the "
        f"search {final.before:.4f}"
    )
    return f"{what}; the {'first' if final.is_longer else 'second'} model is in this bundle."


def _figures(model: BundledModel) -> Iterator[str]:
    device, measured = model.device, model.confirmation
    fingerprint = device["fingerprint"]
    yield "## Measurements"
    yield ""
    where = escaped(str(fingerprint.get("cpu") or fingerprint.get("board") or device["kind"]))
    yield f"On {where} (device {escaped(device['name'])}), {model.job.runtime} {measured.runtime_version},"
    threads = measured.protocol.threads
    images = "image" if measured.batch == 1 else "images"
    yield (
        f"{threads} thread{'s' if threads > 1 else ''}, {measured.batch} {images} in a run, {len(model.measurements)} "
        f"measurements, the last one in {measured.processes} processes ({measured.protocol.id})."
    )
    yield ""
    if measured.protocol.throughput_s:
        streams = measured.protocol.streams
        runs = f"{streams} runs in flight" if streams > 1 else "one run after the other, with none beside it"
        yield f"Throughput and the latency beside other runs are those of {runs}."
        yield ""
    yield "| figure | value | 95 % interval |"
    yield "|---|---|---|"
    for name, figure in model.metrics.figures.items():
        metric = METRICS.get(name)
        if metric is not None and not metric.is_quality and not metric.is_raw and figure.value is not None:
            yield f"| {metric.title} | {figure.value:.4g} {metric.unit} | {_interval(figure)} |"
    yield ""
    yield "`measurements.json` has every measurement with its conditions, and why a figure is missing."
    flags = sorted({flag for measurement in model.measurements for flag in measurement.flags})
    if flags:
        yield f"Flags of these measurements: {', '.join(flags)}."
    if measured.basis == "paired":
        yield "The device is shared with others, so medians are what a quiet machine takes, by reference models that"
        yield "ran beside the model; the medians that were read are in `measurements.json`. The 95th percentile, the"
        yield "throughput, the latency beside other runs and the time to load are as they were read, beside other work."


def _contexts(model: BundledModel) -> Iterator[str]:
    """What was compiled for chips; nothing where nothing was."""
    if not model.contexts:
        return
    yield "## For the NPUs of Qualcomm"
    yield ""
    for shipped in model.contexts:
        yield f"- `{shipped.name}` for {escaped(shipped.context.chip.product)}: {escaped(shipped.text)}"
    yield ""
    for line in (line for shipped in model.contexts for line in shipped.warnings):
        yield f"**{escaped(line)}.**"
        yield ""
    compilers = ", ".join(dict.fromkeys(shipped.context.compiler for shipped in model.contexts))
    yield f"Compiled by {escaped(compilers)}, and run in its emulation of the NPU, beside the CPU on the same file; not"
    yield "run on a chip. `contexts.json` has the counts. On that chip, name such a file in `example.py` instead of"
    yield "`model.onnx`: it loads at once, and `model.onnx` is compiled first. Conversions of the image and of the"
    yield "outputs stay on the CPU."


def _interval(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.4g} to {figure.high:.4g}"


def _run(model: BundledModel) -> Iterator[str]:
    yield "## Run it"
    yield ""
    if examples.python_example(model) is None:
        yield f"{examples.example_of(model).why_no_python(model)} The input is `images`, float32,"
        yield f"as `preprocessing.py` makes it; the output is `{model.task.output}`."
        return
    yield "```"
    yield "pip install -r requirements.txt"
    yield f"python example.py {_ARGUMENTS.get(model.task.kind, 'IMAGE...')}"
    yield "```"
    if model.task.kind == SEGMENTATION:
        yield ""
        yield from _MAP
    for lines in examples.example_of(model).notes(model):
        yield ""
        yield from lines


_MAP = (
    "The output `logits`, float32 (1, classes, height, width), is a map of a quarter of the input's height and width:",
    "the class of a position is that of its largest logit, in the order of `labels.json`. The map is of what the model",
    "sees, the centre of an image of another shape (Preprocessing, below). The example writes that map as a PNG mask",
    "as large as the image after step 2.",
)
"""What the output of a segmentation is."""


def _tool(model: BundledModel) -> Iterator[str]:
    yield "## The runtime's own benchmark"
    yield ""
    command = examples.example_of(model).tool(model)
    if command is None:
        yield f"There is no such tool for {model.job.runtime} with these options."
        return
    yield "```"
    yield shlex.join(command)
    yield "```"


def _verify(model: BundledModel, with_images: bool) -> Iterator[str]:
    yield "## Verify it"
    yield ""
    judged = "accuracy" if model.task == CLASSIFICATION else "outputs"
    yield f"`{single_file.NAME}`, the agent of vitsearch, checks the files, the {judged} and the measurements."
    yield "It needs Python 3.6 or newer, the runtime and NumPy:"
    yield ""
    yield "```"
    if examples.packages(model):
        yield "pip install -r requirements.txt"
    command = f"python {single_file.NAME} verify ."
    if not with_images and model.task == CLASSIFICATION:
        of_class = "" if model.labelled_by is None else f", by the class that {model.labelled_by} gives in fp32"
        command += f" --data FOLDER   # FOLDER/CLASS/*.jpg{of_class}; needs pillow"
    yield command
    yield "```"
    yield ""
    if not with_images and model.task != CLASSIFICATION:
        yield "The bundle has no images, so its outputs are not judged."
        yield ""
    yield "The checksums find damage, not an attacker: whoever changes a file can change `SHA256SUMS` and the agent"
    yield "too. Verify a bundle of somebody else with an agent of your own. Where there is"
    yield f"`{SIGNATURE}`, it says who made the bundle: `vitsearch verify . --signers FILE`, with a file of the"
    yield "keys that you trust."
    name, result = model.quality, model.judged
    inside, whole = model.shipped.on_images.value(name), result.metrics.value(name)
    if with_images and model.images_in_bundle < result.n and inside is not None and whole is not None:
        yield ""
        yield f"It runs {model.images_in_bundle} of the {result.n} {result.split} images, those in `images/`. On these"
        yield f"{name} is {inside:.4f}, on all of them {whole:.4f}."


def _preprocessing(model: BundledModel) -> Iterator[str]:
    settings = model.preprocessing
    mode = "grey" if settings["channels"] == 1 else "colour"
    yield "## Preprocessing"
    yield ""
    yield f"1. Turn the image as its EXIF data says; transparent pixels become white; convert it to 8-bit {mode}."
    stored, crop, size = (ImageSize.of(settings[name]) for name in ("image_size", "crop_size", "resolution"))
    resized = f"its shorter side to {stored} pixels" if stored.is_square else f"it until it covers {stored.by} pixels"
    axes = "" if stored.is_square and size.is_square else " (sizes are height x width)"
    yield f"2. Resize {resized} (bicubic, antialiased) and crop the centre{axes}."
    step = 3
    if crop != stored:
        cropped = f"{crop} pixels a side" if crop.is_square else f"{crop.by} pixels"
        yield f"{step}. Crop the {cropped} around its centre."
        step += 1
    if crop != size:
        wanted = size if size.is_square else size.by
        yield f"{step}. Resize it to {wanted} pixels ({settings['interpolation']}, antialiased)."
        step += 1
    mean, std = settings["mean"], settings["std"]
    yield f"{step}. Divide by 255, subtract {mean}, divide by {std}; the order is channels, height, width."
    yield ""
    has_classes = ", `labels.json` the classes" if model.task.labels in ("needed", "masks") else ""
    yield f"`preprocessing.py` does this with Pillow and NumPy. `preprocessing.json` has the numbers{has_classes}."


def _made(model: BundledModel) -> Iterator[str]:
    yield "## What made it"
    yield ""
    weights = model.weights
    file = "" if weights.file is None else f" {escaped(weights.file)}, SHA-256 `{weights.sha256}`"
    yield f"- starting weights: `{model.final.plan.backbone}`, {weights.kind}{file}"
    yield f"- data: {escaped(model.data_source)}, fingerprint `{model.data['fingerprint']}`"
    yield f"- software: {', '.join(f'{name} {version}' for name, version in sorted(model.versions.items()))}"
    yield f"- runtime on the device: {model.job.runtime} {model.confirmation.runtime_version}"
    yield f"- `artifact_key`: `{model.artifact.artifact_key}`"
    yield ""
    if model.final.rung:
        yield "The weights were trained. With another number of threads, or on another processor, gradients are added"
        yield "in another order: the same training again gives weights that differ, first in their last bits."
    else:
        yield "No gradient step was taken after the base. What is cut is fitted in closed form, with the same result"
        yield "for any number of threads."
    yield ""
    yield "`plan.json` has the plan, `provenance.json` the whole list."


def _licences(model: BundledModel) -> Iterator[str]:
    yield "## Licences"
    yield ""
    for what, licence in sorted(model.shipped.licences.items()):
        yield f"- {what}: {escaped(licence) if licence else 'unknown; whoever provided them knows'}"


def _limits(model: BundledModel) -> Iterator[str]:
    yield "## Limits"
    yield ""
    if model.task == CLASSIFICATION:
        yield "The model gives one of its classes for every image, also for images of something else."
    yield "Nothing was tested beyond the images named above: neither other cameras and light, nor fairness, nor"
    yield "attacks."


def escaped(text: str) -> str:
    """Text from outside as one line, with nothing in it that Markdown would read as its own."""
    return _SPECIAL.sub(r"\\\1", printable(text))
