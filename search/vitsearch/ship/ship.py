"""`vitsearch ship`: from a trial of a study to its bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vitsearch.core.figures import PrintedMetrics
from vitsearch.errors import ResourceError, StudyError
from vitsearch.pipeline.progress import Progress
from vitsearch.search.observers import FinalFront, ShippedModel
from vitsearch.search.observers.observe import usable_for_bundles
from vitsearch.ship import contents, npu, prepare, signing, writing
from vitsearch.ship.bundled_model import BundledModel, SplitResult, describe
from vitsearch.ship.choice import Wanted, choose
from vitsearch.ship.prepare import Opened
from vitsearch.ship.shipped_context import ShippedContext
from vitsearch.ship.writing import BundlePlace
from vitsearch.space import load
from vitsearch.storage.addresses import without_password
from vitsearch.study import lookup
from vitsearch.study.retargeted import find
from vitsearch_agent.verify.bundle import CHECKSUMS
from vitsearch_agent.verify.checksums import SIGNATURE


@dataclass(frozen=True)
class ShipOptions:
    """How a bundle is written.

    Attributes:
        folder: Where to; None: named after the study and the trial, in the present folder.
        again: Whether to evaluate and measure whatever the ledger has.
        images: Whether test images are put into the bundle.
        emulated: Whether the figures of an emulated device are allowed.
        observers: Those that get the bundle, by their names with their settings, such as the URI of `mlflow`.
        sign: The OpenSSH key that signs its checksums.
        chips: The names of chips of Qualcomm for which the file is compiled too.
    """

    folder: Path | None = None
    again: bool = False
    images: bool = True
    emulated: bool = False
    observers: Mapping[str, str] = field(default_factory=dict)
    sign: Path | None = None
    chips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        folder: Its folder.
        archive: A zip of the folder.
        model: The model with its figures.
        is_signed: Whether its checksums are signed.
    """

    folder: Path
    archive: Path
    model: BundledModel
    is_signed: bool = False


@dataclass(frozen=True)
class PrintedResult:
    """What the task makes of the outputs for the images of a split."""

    n: int
    """Images."""
    values: Mapping[str, float | None]
    """Each metric of the task; null where it has none."""
    intervals: Mapping[str, tuple[float, float]]
    """Its 95 % interval."""

    @classmethod
    def of(cls, result: SplitResult) -> PrintedResult:
        return cls(result.n, result.metrics.values, result.metrics.intervals)


@dataclass(frozen=True)
class PrintedQuality:
    """The quality of a shipped file."""

    test: PrintedResult | None
    """On the test images; null where the data has none."""
    validation: PrintedResult
    """On the validation images."""


@dataclass(frozen=True)
class PrintedContext:
    """A file that was compiled for the NPU of a chip."""

    chip: str
    """Name of the chip."""
    file: str
    """Its name in the bundle."""
    contexts: int
    """Contexts in the file; more than one is slow."""
    cpu_operators: Mapping[str, int]
    """Operators that are left to the CPU, with their numbers."""
    images: int
    """Images that the emulated NPU was run on."""
    other_class: int | None
    """Those with another class than on the CPU that are no ties; null for another task than classification."""
    largest_difference: float
    """Largest difference between an output of the emulated NPU and of the CPU."""

    @classmethod
    def of(cls, shipped: ShippedContext) -> PrintedContext:
        context, seen = shipped.context, shipped.agreement
        return cls(
            chip=context.chip.name,
            file=shipped.name,
            contexts=context.contexts,
            cpu_operators=context.cpu_operators,
            images=seen.images,
            other_class=seen.other_class,
            largest_difference=seen.largest_difference,
        )


@dataclass(frozen=True)
class PrintedBundle(PrintedMetrics):
    """A bundle that was written."""

    folder: Path
    """The bundle."""
    zip: Path
    """The same as one file."""
    signed: bool
    """Whether SHA256SUMS.sig is in it (--sign)."""
    study: str
    """Name of the study."""
    trial: int | None
    """Number of the trial; null for the baseline."""
    artifact_key: str
    """Its key in the ledger."""
    quality: PrintedQuality
    """Quality of the shipped file."""
    contexts: tuple[PrintedContext, ...]
    """The files that were compiled for chips (--chip)."""

    @classmethod
    def of(cls, bundle: Bundle) -> PrintedBundle:
        model = bundle.model
        tested = None if model.on_test is None else PrintedResult.of(model.on_test)
        return cls(
            **vars(model.metrics.printed()),
            folder=bundle.folder,
            zip=bundle.archive,
            signed=bundle.is_signed,
            study=model.study,
            trial=model.trial,
            artifact_key=model.artifact.artifact_key,
            quality=PrintedQuality(tested, PrintedResult.of(model.validation)),
            contexts=tuple(map(PrintedContext.of, model.contexts)),
        )


def ship(where: str, wanted: Wanted, options: ShipOptions, progress: Progress) -> Bundle:
    """Prepare one model of a study and write its bundle. What the ledger has is not made again.

    What is wrong with `options` is found before minutes of training and measuring.
    """
    observers = {name: usable_for_bundles(name) for name in options.observers}
    if options.sign is not None:
        signing.require(options.sign)
    chips = npu.chips_of(options.chips)
    with _opened(where, wanted.device) as opened, _reserved(options.folder) as target:
        if opened.is_emulated and not options.emulated:
            raise ResourceError(
                f"study {opened.study.name!r} was measured on an emulated device, so its figures are those of no real "
                "one; to ship them all the same, add --allow-emulated"
            )
        chosen = choose(opened.study, opened.ledger, wanted)
        if chips:
            npu.require_npu(chosen.name, chosen.plan.deployment)
        final = None if options.again else prepare.stored_final(opened, chosen)
        if final is None:
            final = prepare.prepare(opened, chosen, progress, options.again)
        model = describe(opened, chosen, final)
        space = opened.space
        front = FinalFront.read(opened.study, opened.ledger) if observers else None
        with tempfile.TemporaryDirectory() as compiled:
            contexts = npu.shipped_contexts(model, chips, Path(compiled), progress)
            bundle = _write(replace(model, contexts=contexts), options, target)
    if front is not None:
        shipped = _shipped(bundle)
        for name, observer in observers.items():
            try:
                observer.send_bundle(options.observers[name], space, front, shipped)
            except Exception as error:  # noqa: BLE001 - whatever a server or its client raised: the bundle is written
                why = without_password(str(error), options.observers[name])
                progress.note(f"{name} did not take the bundle, which is in {bundle.folder}: {why}")
            else:
                progress.note(f"{name} has the bundle, in the run of study {bundle.model.study!r}")
    return bundle


@contextmanager
def _reserved(folder: Path | None) -> Iterator[BundlePlace | None]:
    """The place of the bundle; None for one that is named after its model, which may turn out to be a longer
    training."""
    if folder is None:
        writing.place(Path("bundle"))
        yield None
        return
    with writing.reserved(folder) as target:
        yield target


def _write(model: BundledModel, options: ShipOptions, target: BundlePlace | None) -> Bundle:
    files = contents.contents(model, options.images)
    checksums = files[CHECKSUMS]
    assert isinstance(checksums, bytes)  # made here
    if options.sign is not None:
        files[SIGNATURE] = signing.signature(options.sign, checksums)
    if options.folder is not None and target is not None:
        return Bundle(options.folder, target.write(model.name, files), model, options.sign is not None)
    folder = Path(writing.plain(model.name))
    return Bundle(folder, writing.write(model.name, files, folder), model, options.sign is not None)


def _shipped(bundle: Bundle) -> ShippedModel:
    """What observers get of a bundle."""
    model = bundle.model
    qualities = {
        f"{name}_{result.split}": value
        for result in model.results
        for name, value in result.metrics.values.items()
        if value is not None
    }
    measured = {name: value for name, value in model.metrics.values.items() if value is not None}
    return ShippedModel(
        model.name,
        model.trial,
        model.artifact.artifact_key,
        bundle.folder / "README.md",
        bundle.archive,
        measured | qualities,
    )


@contextmanager
def _opened(where: str, device: str | None) -> Iterator[Opened]:
    """The study with its space, on its own device or on a target; the section `ship` and the addresses of devices are
    those of a space file where `where` is one."""
    with lookup.opened_to_change(where) as (study, ledger):
        own = study.space()
        newer = load(where).space if where.endswith((".yaml", ".yml")) else own
        if own.fleet_names and device in (None, own.device_name):
            names = " or ".join(f"--device {name}" for name in own.fleet_names)
            raise StudyError(f"study {study.name!r} was searched on a fleet; a bundle is for one device: add {names}")
        there = None if device in (None, own.device_name) else find(study, device or "")
        readdressed = own.model_copy(
            update={"devices": {name: newer.devices.get(name, section) for name, section in own.devices.items()}}
        )
        space = readdressed if there is None else there.target.space(own, newer.devices)
        adopted = {"storage": lookup.find(where).storage, "ship": newer.ship}
        yield Opened(study, ledger, space.model_copy(update=adopted), there)
