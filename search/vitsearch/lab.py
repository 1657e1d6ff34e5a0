"""The stages of a trial as awaitable calls: looked up in the ledger, else made once and written there.

The order of writing is always: file stored, ledger row, then Optuna. A stage that two trials want at
the same time is made once; a stage that another driver is making (its claim is alive) is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from vitsearch.absence import AwaitedDevice
from vitsearch.calibrations import Calibrations
from vitsearch.compress.quantize import CALIBRATED, MIXED, TRAINED
from vitsearch.devices import Device
from vitsearch.driver_id import DriverId
from vitsearch.effect import (
    Anatomy,
    DataIdentity,
    Effect,
    Scores,
    artifact_key,
    graph_key,
    qat_key,
    resolve,
    weights_key,
)
from vitsearch.jobs import (
    AnatomyJob,
    Base,
    BaseJob,
    Calibration,
    ExportJob,
    FeaturesJob,
    FileJob,
    Job,
    LogitsJob,
    Made,
    Pruned,
    QatJob,
    ScreenJob,
    SensitivityJob,
    SignalJob,
    SignalSeen,
    Source,
    SubsetJob,
    Teaching,
    TrainJob,
    Workshop,
)
from vitsearch.judging import Judging
from vitsearch.ledger import AccuracyRow, AnatomyRow, ArtifactRow, Ledger, MeasurementRow, TrainingRow
from vitsearch.measured import values_of
from vitsearch.measuring import Measurand, Measuring
from vitsearch.once import Once
from vitsearch.pareto import wilson
from vitsearch.plan import Plan, QuantizationAware, Recipe
from vitsearch.progress import Progress
from vitsearch.protocols import Phases, Protocols
from vitsearch.record import Errors, Keys, Values
from vitsearch.runner import Runner
from vitsearch.store import Loans
from vitsearch_evaluators.canonical import digest

OPSET = 17
ANATOMY_SCHEMA = 4
"""Raised by hand when anatomies, scores or statistics hold more than they did. 2: prefix tokens. 3: which
blocks can be dropped, and what each is worth. 4: what each channel of the stream is worth."""
VALIDATION = "validation"
R = TypeVar("R")
J = TypeVar("J", bound=TrainJob)


@dataclass(frozen=True)
class Teacher:
    """The model that a space file names to distil from, and its own training where its classifier is new."""

    backbone: str
    weights: str
    recipe: Recipe


@dataclass(frozen=True)
class Setting:
    """What the stages need to know of the space file. ``teacher`` None: each backbone's own unpruned base.
    ``starts`` gives the digest of a backbone's starting weights; the device judges the models of the front on
    ``device_images`` images."""

    data: DataIdentity
    base_recipe: Recipe
    teacher: Teacher | None
    base_resolution: Callable[[str], int]
    starts: Callable[[Source], str]
    calibration_images: int
    quantization_images: int
    signal_images: int
    wall_clock_decides: bool
    seed: int
    qat: QuantizationAware = QuantizationAware()
    phases: Phases = Phases()
    device_images: int = 0

    @property
    def calibration(self) -> Calibration:
        """Of static quantization."""
        return Calibration(self.quantization_images, self.seed)

    @property
    def anatomy_calibration(self) -> Calibration:
        """Of importance, statistics and what is fitted in closed form."""
        return Calibration(self.calibration_images, self.seed)


@dataclass(frozen=True)
class Prepared:
    """A plan resolved on its backbone; what every later stage needs."""

    plan: Plan
    base: Base
    effect: Effect
    pruned: Pruned
    weights_key: str
    graph_key: str
    device_id: str

    def keys(self, artifact: str | None = None) -> Keys:
        return Keys(self.weights_key, self.graph_key, artifact, self.device_id)


@dataclass(frozen=True)
class Measured:
    keys: Keys
    values: Values
    errors: Errors


class Lab:
    """One per run."""

    def __init__(
        self,
        setting: Setting,
        workshop: Workshop,
        ledger: Ledger,
        runner: Runner,
        device: Device,
        driver: DriverId,
        progress: Progress,
    ) -> None:
        self.setting = setting
        self._workshop = workshop
        self._loans = Loans(workshop.scratch)
        self._ledger = ledger
        self._runner = runner
        self._progress = progress
        self.once = Once(ledger, driver)
        self.device = AwaitedDevice(device, self.once)
        self.protocols = Protocols.of(setting.phases, device.info)
        measured = setting.wall_clock_decides, self.protocols
        self._measuring = Measuring(ledger, self.once, self.device, progress, *measured)
        judged = setting.device_images, setting.data.channels, setting.data.fingerprint
        self._judging = Judging(ledger, self.once, self.device, progress, judged, self._subset)
        self.base_accuracy: dict[str, float] = {}
        """Of every backbone whose base is known by now, on the validation split."""

    # ---- the stages, in order

    async def base(self, backbone: str, weights: str) -> Base:
        """The unpruned model on the user's classes; trained first when its classifier is new."""
        base = await self._unpruned(backbone, weights, self.setting.base_recipe)
        self.base_accuracy[backbone] = base.accuracy
        return base

    async def _unpruned(self, backbone: str, weights: str, recipe: Recipe) -> Base:
        source = Source(backbone, weights, self.setting.base_resolution(backbone))
        key = digest(
            {
                "stage": "base",
                "backbone": backbone,
                "resolution": source.resolution,
                "start": self.setting.starts(source),
                "recipe": recipe.to_json(),
                "data": self.setting.data.__dict__,
            }
        )
        rung = recipe.rungs[-1]

        async def make() -> tuple[TrainingRow, Made]:
            base, made = await self._run(BaseJob(self._workshop, source, recipe))
            return TrainingRow(key, rung, base.accuracy, None, base.n, base.weights_sha256), made

        row = await self.once.get(f"base:{key}", lambda: self._ledger.training(key, rung), make)
        return Base(row.checkpoint_sha256 or "", row.accuracy, row.n)

    async def prepare(self, plan: Plan) -> Prepared:
        base = await self.base(plan.backbone, plan.weights)
        source = replace(self._source(plan.backbone, base, plan.resolution), window_size=plan.window_size)
        anatomy = await self._anatomy(source, base)
        parts = Anatomy.from_json(anatomy.anatomy)
        damage = await self._rounding_damage(source, base) if plan.deployment.precision in MIXED else None
        effect = resolve(plan, parts, Scores.from_json(anatomy.scores), damage)
        calibrations = Calibrations.of(
            effect, parts, self.setting.base_resolution(plan.backbone), self.setting.anatomy_calibration
        )
        teacher = await self._teacher(plan, base)
        taught_by = teacher.weights_sha256 if teacher else None
        return Prepared(
            plan,
            base,
            effect,
            Pruned(
                source,
                effect,
                anatomy.statistics_sha256,
                calibrations.batch_norms,
                calibrations.refit,
                calibrations.token_predictors,
                calibrations.sparsity,
            ),
            weights_key(effect, plan, base.weights_sha256, taught_by, self.setting.data, calibrations.refit_digest()),
            graph_key(effect, plan.deployment, self.setting.data, OPSET),
            self.device.info.device_id,
        )

    async def screen(self, prepared: Prepared) -> Measured:
        """Cost of the graph, built from the starting weights: nothing was trained for it."""
        calibration = self._calibration_digest(prepared.plan)
        key = artifact_key(prepared.base.weights_sha256, 0, prepared.graph_key, calibration)

        async def make() -> tuple[ArtifactRow, Made]:
            job = ScreenJob(self._workshop, prepared.pruned, prepared.plan.deployment, OPSET, self.setting.calibration)
            graph, made = await self._run(job)
            detail = {"macs_m": graph.macs_m, "params_m": graph.params_m, "parity": graph.parity}
            where = str(self._workshop.scratch.root)
            return ArtifactRow(key, "screen", graph.sha256, graph.size_bytes, where, detail), made

        row = await self.once.get(f"screen:{key}", lambda: self._ledger.artifact(key), make)
        measured = self._measuring.latest(prepared.graph_key, self.protocols.screen)
        if measured is None:
            with self._loans.lent(row.sha256):
                if not self._workshop.scratch.holds(row.sha256):  # measured and dropped, or the folder was emptied
                    rebuilt, _ = await make()
                    row = rebuilt
                with self._loans.lent(row.sha256):
                    path = self._workshop.scratch.get(row.sha256)
                    measured = await self._measuring.measure(_measurand(prepared, path, row), self.protocols.screen)
        return self._measured(prepared.keys(), row, measured)

    async def signal(self, prepared: Prepared) -> SignalSeen:
        """Rung 0: accuracy and divergence of the refitted model, no gradient step taken."""
        key = prepared.weights_key

        async def make() -> tuple[TrainingRow, Made]:
            base_logits = await self._base_logits(prepared)
            job = SignalJob(self._workshop, prepared.pruned, base_logits, self.setting.signal_images)
            seen, made = await self._run(job)
            return TrainingRow(key, 0, seen.accuracy, seen.kl, seen.n, None), made

        row = await self.once.get(f"signal:{key}", lambda: self._ledger.training(key, 0), make)
        return SignalSeen(row.accuracy, row.kl or 0.0, row.n)

    async def train(self, prepared: Prepared, rung: int) -> TrainingRow:
        recipe = prepared.plan.recipe
        before = recipe.rungs[recipe.rungs.index(rung) - 1]

        async def job() -> TrainJob:
            return await self._training(TrainJob, prepared, recipe, before, rung)

        return await self._trained(prepared.weights_key, rung, job)

    async def train_quantized(self, prepared: Prepared, rung: int) -> TrainingRow:
        """What was trained up to ``rung``, trained on with the rounding of static int8 in place."""
        plan, settings, calibration = prepared.plan, self.setting.qat, self._calibration_digest(prepared.plan)
        recipe, end = settings.recipe(plan.recipe), rung + settings.epochs(rung)

        async def job() -> QatJob:
            calibrated = partial(QatJob, calibration=self.setting.calibration)
            return await self._training(calibrated, prepared, recipe, rung, end)

        key = qat_key(prepared.weights_key, rung, settings, calibration or "")
        return await self._trained(key, rung, job)

    async def confirm(self, prepared: Prepared, rung: int) -> Measured:
        """The exported artifact: its accuracy on its own runtime, and the full measurement.

        A precision that is trained for is trained first, where there was any training: the leaderboard
        shows what its graph costs and what it loses without.
        """
        weights = prepared.weights_key
        if rung and prepared.plan.deployment.precision in TRAINED:
            weights = (await self.train_quantized(prepared, rung)).weights_key
        key = artifact_key(weights, rung, prepared.graph_key, self._calibration_digest(prepared.plan))
        row = await self._artifact(prepared, weights, rung, key)
        measured = self._measuring.latest(prepared.graph_key, self.protocols.confirm)
        if measured is None:
            path = self._workshop.store.get(row.sha256)
            measured = await self._measuring.measure(_measurand(prepared, path, row), self.protocols.confirm)
        return self._measured(prepared.keys(key), row, measured)

    def quiet(self) -> None:
        """End the workers: nothing but the device works from here on."""
        self._runner.close()

    async def measure_quietly(self, keys: Keys, plan: Plan) -> bool:
        """Measure an artifact of the front once more, now that nothing else runs; False when that was done before."""
        row = self._ledger.artifact(keys.artifact_key or "")
        if row is None:
            return False
        path = self._workshop.store.get(row.sha256)
        return await self._measuring.again(Measurand(path, row.sha256, keys.graph_key, plan.deployment))

    async def cut_subsets(self, resolutions: Iterable[int]) -> None:
        """What the device judges by, made while there are workers."""
        await self._judging.prepare(resolutions)

    async def judge_on_device(self, keys: Keys, plan: Plan) -> AccuracyRow | None:
        """What the device itself says of an artifact's accuracy; None when it is not asked."""
        row = self._ledger.artifact(keys.artifact_key or "")
        return None if row is None else await self._judging.judge(row, self._workshop.store.get(row.sha256), plan)

    # ---- what the stages share

    async def _subset(self, resolution: int | None, images: int) -> Path:
        described = {"stage": "subset", "data": self.setting.data.fingerprint, "resolution": resolution}
        sha256 = await self._file(digest(described | {"images": images}), SubsetJob(self._workshop, resolution, images))
        return self._workshop.store.get(sha256)

    async def _anatomy(self, source: Source, base: Base) -> AnatomyRow:
        wanted = self.setting.anatomy_calibration
        calibration = digest({"data": self.setting.data.fingerprint} | asdict(wanted))
        described = {"weights": base.weights_sha256, "resolution": source.resolution, "calibration": calibration}
        windows = {} if source.window_size is None else {"window_size": source.window_size}
        key = digest({"schema": ANATOMY_SCHEMA} | described | windows)

        async def make() -> tuple[AnatomyRow, Made]:
            found, made = await self._run(AnatomyJob(self._workshop, source, wanted))
            row = AnatomyRow(
                key,
                base.weights_sha256,
                source.resolution,
                calibration,
                found.anatomy,
                found.scores,
                found.statistics_sha256,
            )
            return row, made

        return await self.once.get(f"anatomy:{key}", lambda: self._ledger.anatomy(key), make)

    async def _rounding_damage(self, source: Source, base: Base) -> dict[str, float]:
        """Of each layer of the unpruned model alone; made once for all plans that mix precisions."""
        calibration = asdict(self.setting.calibration) | {"data": self.setting.data.fingerprint}
        seen = {"weights": base.weights_sha256, "resolution": source.resolution, "window": source.window_size}
        key = digest({"stage": "sensitivity", "calibration": calibration} | seen)

        sha256 = await self._file(key, SensitivityJob(self._workshop, source, self.setting.calibration))
        damage: dict[str, float] = json.loads(self._workshop.store.get(sha256).read_text())
        return damage

    async def _teacher(self, plan: Plan, own: Base) -> Base | None:
        """None without distillation; the backbone's own unpruned model unless the file names a teacher."""
        if plan.distillation == "none":
            return None
        named = self.setting.teacher
        return own if named is None else await self._unpruned(named.backbone, named.weights, named.recipe)

    async def _teaching(self, prepared: Prepared) -> Teaching:
        """What a fine-tune learns from: logits (and features, for hints) that are made once for all plans,
        or, where images are augmented, the teacher itself. Both at the teacher's own resolution."""
        plan = prepared.plan
        teacher = await self._teacher(plan, prepared.base)
        if teacher is None:
            return Teaching(plan.distillation)
        source = self._unpruned_source(
            self.setting.teacher.backbone if self.setting.teacher else plan.backbone, teacher
        )
        if not plan.recipe.augmentation.is_none:
            return Teaching(plan.distillation, live_teacher=source)
        job = LogitsJob(self._workshop, source, "train", plan.recipe, images=0)
        logits, features = await self._answers(job, teacher), None
        if plan.distillation == "feature":
            job = FeaturesJob(self._workshop, source, "train", plan.recipe, images=0)
            features = await self._answers(job, teacher)
        return Teaching(plan.distillation, logits, features)

    async def _base_logits(self, prepared: Prepared) -> str:
        source = self._unpruned_source(prepared.plan.backbone, prepared.base)
        job = LogitsJob(self._workshop, source, VALIDATION, prepared.plan.recipe, self.setting.signal_images)
        return await self._answers(job, prepared.base)

    async def _answers(self, job: LogitsJob, model: Base) -> str:
        """The file of what ``model`` answers."""
        pool = [job.recipe.images_per_epoch, job.recipe.rungs[-1], job.recipe.seed]
        key = digest(
            {
                "stage": job.kind,
                "weights": model.weights_sha256,
                "resolution": job.source.resolution,
                "data": self.setting.data.fingerprint,
                "split": job.split,
                "seen": pool if job.split == "train" else [job.images],
            }
        )

        return await self._file(key, job)

    async def _file(self, key: str, job: FileJob) -> str:
        """The file that ``job`` makes, made once for every trial and every rung."""

        async def make() -> tuple[ArtifactRow, Made]:
            stored, made = await self._run(job)
            where = str(self._workshop.store.root)
            return ArtifactRow(key, job.kind, stored.sha256, stored.size_bytes, where, {}), made

        row = await self.once.get(f"{job.kind}:{key}", lambda: self._ledger.artifact(key), make)
        return row.sha256

    async def _training(self, kind: Callable[..., J], prepared: Prepared, recipe: Recipe, start: int, end: float) -> J:
        """Trained on from rung ``start`` of the plan's own training."""
        before = self._ledger.training(prepared.weights_key, start)
        return kind(
            workshop=self._workshop,
            pruned=prepared.pruned,
            recipe=recipe,
            start=start,
            end=end,
            checkpoint_sha256=before.checkpoint_sha256 if before else None,
            teaching=await self._teaching(prepared),
            base_logits_sha256=await self._base_logits(prepared),
            images=self.setting.signal_images,
        )

    async def _trained(self, key: str, rung: int, job: Callable[[], Awaitable[TrainJob]]) -> TrainingRow:
        async def make() -> tuple[TrainingRow, Made]:
            found, made = await self._run(await job())
            return TrainingRow(key, rung, found.accuracy, found.kl, found.n, found.checkpoint_sha256), made

        return await self.once.get(f"train:{key}:{rung}", lambda: self._ledger.training(key, rung), make)

    async def _artifact(self, prepared: Prepared, weights: str, rung: int, key: str) -> ArtifactRow:
        async def make() -> tuple[ArtifactRow, Made]:
            trained = self._ledger.training(weights, rung)
            checkpoint = trained.checkpoint_sha256 if trained else None
            job = ExportJob(
                self._workshop,
                prepared.pruned,
                prepared.plan.deployment,
                OPSET,
                self.setting.calibration,
                checkpoint,
            )
            out, made = await self._run(job)
            detail = {"macs_m": out.macs_m, "params_m": out.params_m, "parity": out.parity}
            accuracy = AccuracyRow(key, self.setting.data.fingerprint, out.n, "worker", out.correct)
            self._ledger.add(accuracy, made)
            where = str(self._workshop.store.root)
            return ArtifactRow(key, "onnx", out.sha256, out.size_bytes, where, detail), made

        return await self.once.get(f"artifact:{key}", lambda: self._ledger.artifact(key), make)

    def _measured(self, keys: Keys, artifact: ArtifactRow, measurement: MeasurementRow) -> Measured:
        values, errors = values_of(measurement.result)
        values["size_mb"] = artifact.size_bytes / 1e6
        values["macs_m"] = artifact.detail["macs_m"]
        values["params_m"] = artifact.detail["params_m"]
        seen = self._ledger.accuracy(artifact.artifact_key, self.setting.data.fingerprint)
        if seen is not None:
            values["accuracy"] = seen.correct / seen.n
            errors["accuracy"] = wilson(seen.correct, seen.n)
        return Measured(keys, values, errors)

    def _calibration_digest(self, plan: Plan) -> str | None:
        """Of what a quantized file depends on beside weights and graph; None when it depends on no images."""
        method = CALIBRATED.get(plan.deployment.precision)
        if method is None:
            return None
        return digest({"method": method, "data": self.setting.data.fingerprint} | asdict(self.setting.calibration))

    def _source(self, backbone: str, base: Base, resolution: int) -> Source:
        return Source(backbone, f"file:{self._workshop.store.get(base.weights_sha256)}", resolution)

    def _unpruned_source(self, backbone: str, base: Base) -> Source:
        return self._source(backbone, base, self.setting.base_resolution(backbone))

    async def _run(self, job: Job[R]) -> tuple[R, Made]:
        with self._progress.stage(job.make):
            return await self._runner.run(job)


def _measurand(prepared: Prepared, path: Path, row: ArtifactRow) -> Measurand:
    return Measurand(path, row.sha256, prepared.graph_key, prepared.plan.deployment)
