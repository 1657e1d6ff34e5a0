"""Everything that is known of a model that is shipped, read from the ledger: neither device nor workers are needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from vitsearch.core.figures import Metrics, metrics_of_file
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment, plan_text
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.record import Shipped
from vitsearch.errors import StudyError
from vitsearch.export.device_jobs import DeviceJob, device_job
from vitsearch.ship.choice import Chosen
from vitsearch.ship.prepare import ENVIRONMENTS, Final, Opened, measured_in
from vitsearch.ship.shipped_context import ShippedContext
from vitsearch.storage.ledger import ArtifactRow
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.shipped import find
from vitsearch.storage.stores import store_of
from vitsearch.study.front import Front, Point, read_models, records_on
from vitsearch.study.results.detail import place_of, point_of
from vitsearch.tasks import Tally, Task
from vitsearch_agent.wire.paired import ReferenceTimes
from vitsearch_agent.wire.protocol import Measurement


@dataclass(frozen=True)
class SplitResult:
    """What the task makes of the outputs for the `n` images of a `split`, and what else it keeps of them."""

    split: str
    n: int
    metrics: Metrics
    tally: Tally


@dataclass(frozen=True)
class WeightsSource:
    """Where a training started: `kind` is `builtin`, `hub`, `none` or `file`. A file has its name without its
    folder, and the digest of its bytes."""

    kind: str
    file: str | None = None
    sha256: str | None = None

    @property
    def text(self) -> str:
        """As a plan names them."""
        return self.kind if self.file is None else f"{self.kind}:{self.file}"


@dataclass(frozen=True)
class Standing:
    """How a model of the search stands in its study: its `place` as `vitsearch show` words it, and the `baseline`
    (None before it was measured) beside which it is judged by the `objectives`."""

    place: str
    objectives: tuple[str, ...]
    baseline: Point | None


@dataclass(frozen=True)
class BundledModel:
    """A model and what was found of it. `path` is its file in the store, `images` that of its test images,
    `outputs` that of what it gives for them, `reference` that of what the reference of the study does (None: none).

    `device` describes what measured it (`vitsearch.ship.prepare.ENVIRONMENTS`), `measurements` are those in
    its present environment, `metrics` their pooled figures. `quality` is the metric of
    the task that the study names first, `validation` what the search chose the model by.
    `trial` is None for the baseline. `target` is that of `vitsearch retarget`; None for the study's own device.
    `standing` is None for the baseline itself. `labelled_by` is the network whose own fp32 outputs are the labels; None
    where the images have labels. `contexts` are the files that were compiled for chips, `warnings` those
    that `front` shows of the model.
    """

    study: str
    trial: int | None
    final: Final
    data: dict[str, Any]
    source: dict[str, Any]
    artifact: ArtifactRow
    path: Path
    images: Path
    outputs: Path
    masks: Path | None
    reference: Path | None
    shipped: Shipped
    task: Task
    quality: str
    validation: SplitResult
    device: dict[str, Any]
    measurements: tuple[Measurement, ...]
    metrics: Metrics
    versions: dict[str, str]
    target: str | None = None
    standing: Standing | None = None
    labelled_by: str | None = None
    contexts: tuple[ShippedContext, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        longer = f"-{self.final.epochs}-epochs" if self.final.is_longer else ""
        there = "" if self.target is None else f"-{self.target}"
        which = "baseline" if self.trial is None else f"trial-{self.trial}"
        return f"{self.study}-{which}{there}{longer}"

    @property
    def origin(self) -> str:
        """Which model of which study it is."""
        return f"{'baseline' if self.trial is None else f'trial {self.trial}'} of study {self.study}"

    @property
    def deployment(self) -> Deployment:
        """With the options that its file needs."""
        options = tuple(sorted(self.artifact.detail.get("options", {}).items()))
        return self.final.plan.deployment.with_options(options)

    @property
    def job(self) -> DeviceJob:
        """How the device's agent runs it."""
        return device_job(self.deployment, self.device["runtimes"])

    @property
    def confirmation(self) -> Measurement:
        """The last measurement by the confirmation protocol."""
        return self.measurements[-1]

    @property
    def reference_times(self) -> ReferenceTimes | None:
        """The times of the reference models by which the figures are shown; None where none ran."""
        return next(
            (measurement.paired.times for measurement in reversed(self.measurements) if measurement.paired is not None),
            None,
        )

    @property
    def on_test(self) -> SplitResult | None:
        """None for data without test images."""
        return self.judged if self.shipped.split == "test" else None

    @property
    def judged(self) -> SplitResult:
        """On the test images; on the validation images where the data has no others."""
        tally = replace(self.validation.tally, value=self.shipped.tally, where="tally of what was shipped")
        return SplitResult(self.shipped.split, self.shipped.n, self.shipped.figures, tally)

    @property
    def images_in_bundle(self) -> int:
        return len(np.load(self.images, mmap_mode="r"))

    @property
    def results(self) -> tuple[SplitResult, ...]:
        """On the test images first, where the data has any, and on the validation images."""
        return tuple(result for result in (self.on_test, self.validation) if result is not None)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The settings of `vitsearch_agent.verify.preprocessing`."""
        view = ModelView(self.final.plan.resolution, self.artifact.preprocessing)
        return view.settings(ImageSize.of(self.data["image_size"]), self.data["channels"])

    @property
    def weights(self) -> WeightsSource:
        kind, _, path = self.final.plan.weights.partition(":")
        if not path:
            return WeightsSource(kind)
        return WeightsSource(kind, PurePath(path).name, self.artifact.detail["start"])

    @property
    def data_source(self) -> str:
        """The source of the images, such as `folder` or `hfds/cifar10`; of a folder its name alone."""
        kind, _, name = self.source["source"].partition("/")
        return f"{kind}/{PurePath(name).name}" if name.startswith(("/", "~", ".")) else self.source["source"]

    @property
    def text(self) -> str:
        return plan_text(self.final.plan)


def describe(opened: Opened, chosen: Chosen, final: Final) -> BundledModel:
    """Collect what the ledger knows of a prepared model."""
    ledger, study, key = opened.ledger, opened.study, final.keys.artifact_key or ""
    artifact, shipped = ledger.artifact(key), find(ledger, key, opened.judged_by)
    evaluated = ledger.evaluation(key, opened.judged_by)
    if artifact is None or shipped is None or evaluated is None:
        raise StudyError(
            f"{chosen.name} of study {study.name!r} cannot be shipped: its results are no longer in the database; run "
            "the same command again"
        )
    task = opened.space.purpose
    tally = Tally(task, evaluated.tally, study.attributes["data"]["class_names"], f"{evaluated.where}: tally")
    results = DeviceResults(ledger, final.keys.device_id)
    measurements = results.last(final.keys.graph_key)
    pooled = results.pooled(final.keys.graph_key)
    assert pooled is not None  # a prepared model was measured
    store, models = store_of(opened.ledger), read_models(study, ledger, _target(opened))
    return BundledModel(
        study=study.name,
        trial=chosen.trial,
        final=final,
        data=dict(study.attributes["data"]),
        source=opened.space.task.data.model_dump(mode="json"),
        artifact=artifact,
        path=store.model(artifact.sha256),
        images=store.get(shipped.images_sha256),
        outputs=store.get(shipped.outputs_sha256),
        masks=None if shipped.masks_sha256 is None else store.get(shipped.masks_sha256),
        reference=None if shipped.reference_sha256 is None else store.get(shipped.reference_sha256),
        shipped=shipped,
        task=task,
        quality=opened.space.qualities[0],
        validation=SplitResult("validation", evaluated.n, evaluated.metrics, tally),
        device=study.attributes[ENVIRONMENTS][measured_in(final.keys.device_id, measurements[-1].environment_id)],
        measurements=tuple(sorted(measurements, key=lambda measurement: measurement.protocol.id == opened.protocol)),
        metrics=pooled.metrics | metrics_of_file(artifact.size_bytes, artifact.detail),
        versions=ledger.versions(artifact),
        target=_target(opened),
        standing=_standing(opened, chosen, models),
        warnings=_shown(chosen, models, final, artifact).warnings,
        labelled_by=None if (section := opened.space.labelled_by) is None else section.name,
    )


def _target(opened: Opened) -> str | None:
    return None if opened.retargeted is None else opened.retargeted.target.name


def _shown(chosen: Chosen, models: Front, final: Final, artifact: ArtifactRow) -> Point:
    """The model as `front` shows it; of a longer training with the file of that."""
    point = next(each for each in (*models.shown(), *models.others) if each.trial == chosen.trial)
    shares = dict(artifact.detail.get("shares", {}))
    return replace(point, shares=shares, on_device=None) if final.is_longer else point


def _standing(opened: Opened, chosen: Chosen, models: Front) -> Standing | None:
    if chosen.trial is None:
        return None
    record = records_on(opened.study, _target(opened))[chosen.trial]
    place = place_of(models, point_of(models, chosen.trial, record), record)
    return Standing(place, models.objectives, models.baseline)
