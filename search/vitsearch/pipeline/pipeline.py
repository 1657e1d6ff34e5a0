"""The stages of a trial as awaitable calls: looked up in the ledger, else made once and written there.

The order of writing is always: file stored, ledger row, then Optuna. A stage that two trials want at
the same time is made once; a stage that another driver is making (its claim is alive) is waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from vitsearch.core.graph import OPSET
from vitsearch.core.keys import artifact_key, graph_key, qat_key, weights_key
from vitsearch.core.measured import values_of
from vitsearch.core.pareto import wilson
from vitsearch.core.plan import Plan, Recipe
from vitsearch.core.precisions import CALIBRATED, MIXED, TRAINED
from vitsearch.core.progress import Progress
from vitsearch.core.record import Errors, Keys, Values
from vitsearch.core.resolve import BlockStructure, ResolvedPlan, Scores, resolve
from vitsearch.devices.agent_device import Device
from vitsearch.devices.availability import WaitingDevice
from vitsearch.devices.protocols import Protocols
from vitsearch.pipeline.calibration import Calibrations
from vitsearch.pipeline.config import StageConfig
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.device_accuracy import DeviceAccuracy
from vitsearch.pipeline.jobs import (
    Base,
    CompressionSpec,
    ExportJob,
    ProxyFound,
    ProxyJob,
    QatJob,
    ScreenJob,
    TrainJob,
    Workspace,
)
from vitsearch.pipeline.measure import DeviceMeasurements, Measurand
from vitsearch.pipeline.runner import Runner
from vitsearch.pipeline.shared_stages import SharedStages
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import ScratchFiles
from vitsearch.storage.ledger import AccuracyRow, ArtifactRow, Ledger, MeasurementRow, TrainingRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch_evaluators.base.canonical_json import digest

BY_DEVICE = frozenset({"measure", "judge"})
"""Stages that the device makes: while one waits for it, these are no other work."""
J = TypeVar("J", bound=TrainJob)


@dataclass(frozen=True)
class ResolvedTrial:
    """A plan resolved on its backbone; what every later stage needs."""

    plan: Plan
    base: Base
    resolved: ResolvedPlan
    spec: CompressionSpec
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


class Pipeline:
    """One per run."""

    def __init__(
        self,
        config: StageConfig,
        workspace: Workspace,
        ledger: Ledger,
        runner: Runner,
        device: Device,
        driver: DriverId,
        progress: Progress,
    ) -> None:
        self.config = config
        self._workspace = workspace
        self._ledger = ledger
        self.single_flight = SingleFlight(ledger, driver)
        self._context = StageContext(workspace, ledger, self.single_flight, runner, progress)
        self._shared = SharedStages(config, self._context)
        self._scratch_files = ScratchFiles(workspace.scratch)
        self.device = WaitingDevice(device, lambda: bool(self.single_flight.kinds() - BY_DEVICE))
        self.protocols = Protocols.of(config.phases, device.info)
        measured = config.wall_clock_decides, self.protocols
        self._measuring = DeviceMeasurements(ledger, self.single_flight, self.device, progress, *measured)
        judged = config.device_images, config.data.channels, config.data.fingerprint
        self._judging = DeviceAccuracy(ledger, self.single_flight, self.device, progress, judged, self._shared.subset)
        self.base_accuracy: dict[str, float] = {}
        """Of every backbone whose base is known by now, on the validation split."""

    # ---- the stages, in order

    async def base(self, backbone: str, weights: str) -> Base:
        """The unpruned model on the user's classes; trained first when its classifier is new."""
        base = await self._shared.unpruned(backbone, weights, self.config.base_recipe)
        self.base_accuracy[backbone] = base.accuracy
        return base

    async def prepare(self, plan: Plan) -> ResolvedTrial:
        base = await self.base(plan.backbone, plan.weights)
        source = replace(self._shared.source(plan.backbone, base, plan.resolution), window_size=plan.window_size)
        block_structure = await self._shared.block_structure(source, base)
        parts = BlockStructure.from_json(block_structure.block_structure)
        sensitivity = (
            await self._shared.rounding_sensitivity(source, base) if plan.deployment.precision in MIXED else None
        )
        resolved = resolve(plan, parts, Scores.from_json(block_structure.scores), sensitivity)
        calibrations = Calibrations.of(
            resolved, parts, self.config.base_resolution(plan.backbone), self.config.structure_calibration
        )
        teacher = await self._shared.teacher(plan, base)
        taught_by = teacher.weights_sha256 if teacher else None
        return ResolvedTrial(
            plan,
            base,
            resolved,
            CompressionSpec(
                source,
                resolved,
                block_structure.statistics_sha256,
                calibrations.batch_norms,
                calibrations.refit,
                calibrations.token_predictors,
                calibrations.sparsity,
            ),
            weights_key(resolved, plan, base.weights_sha256, taught_by, self.config.data, calibrations.refit_digest()),
            graph_key(resolved, plan.deployment, self.config.data, OPSET),
            self.device.info.device_id,
        )

    async def screen(self, trial: ResolvedTrial) -> Measured:
        """Cost of the graph, built from the starting weights: nothing was trained for it."""
        calibration = self._calibration_digest(trial.plan)
        key = artifact_key(trial.base.weights_sha256, 0, trial.graph_key, calibration)

        async def make() -> tuple[ArtifactRow, StageCost]:
            job = ScreenJob(self._workspace, trial.spec, trial.plan.deployment, OPSET, self.config.calibration)
            graph, made = await self._context.run(job)
            detail = {"macs_m": graph.macs_m, "params_m": graph.params_m, "parity": graph.parity}
            where = str(self._workspace.scratch.root)
            return ArtifactRow(key, "screen", graph.sha256, graph.size_bytes, where, detail), made

        row = await self.single_flight.get(f"screen:{key}", lambda: self._ledger.artifact(key), make)
        measured = self._measuring.latest(trial.graph_key, self.protocols.screen)
        if measured is None:
            with self._scratch_files.using(row.sha256):
                if not self._workspace.scratch.holds(row.sha256):  # measured and dropped, or the folder was emptied
                    rebuilt, _ = await make()
                    row = rebuilt
                with self._scratch_files.using(row.sha256):
                    path = self._workspace.scratch.get(row.sha256)
                    measured = await self._measuring.measure(_measurand(trial, path, row), self.protocols.screen)
        return self._measured(trial.keys(), row, measured)

    async def proxy(self, trial: ResolvedTrial) -> ProxyFound:
        """Rung 0: accuracy and divergence of the refitted model, no gradient step taken."""
        key = trial.weights_key

        async def make() -> tuple[TrainingRow, StageCost]:
            base_logits = await self._shared.base_logits(trial.plan, trial.base)
            job = ProxyJob(self._workspace, trial.spec, base_logits, self.config.proxy_images)
            seen, made = await self._context.run(job)
            return TrainingRow(key, 0, seen.accuracy, seen.kl, seen.n, None), made

        row = await self.single_flight.get(f"proxy:{key}", lambda: self._ledger.training(key, 0), make)
        return ProxyFound(row.accuracy, row.kl or 0.0, row.n)

    async def train(self, trial: ResolvedTrial, rung: int) -> TrainingRow:
        recipe = trial.plan.recipe
        before = recipe.rungs[recipe.rungs.index(rung) - 1]

        async def job() -> TrainJob:
            return await self._training(TrainJob, trial, recipe, before, rung)

        return await self._trained(trial.weights_key, rung, job)

    async def train_quantized(self, trial: ResolvedTrial, rung: int) -> TrainingRow:
        """What was trained up to ``rung``, trained on with the rounding of static int8 in place."""
        plan, settings, calibration = trial.plan, self.config.qat, self._calibration_digest(trial.plan)
        recipe, end = settings.recipe(plan.recipe), rung + settings.epochs(rung)

        async def job() -> QatJob:
            calibrated = partial(QatJob, calibration=self.config.calibration)
            return await self._training(calibrated, trial, recipe, rung, end)

        key = qat_key(trial.weights_key, rung, settings, calibration or "")
        return await self._trained(key, rung, job)

    async def confirm(self, trial: ResolvedTrial, rung: int) -> Measured:
        """The exported artifact: its accuracy on its own runtime, and the full measurement.

        A precision that is trained for is trained first, where there was any training: the leaderboard
        shows what its graph costs and what it loses without.
        """
        weights = trial.weights_key
        if rung and trial.plan.deployment.precision in TRAINED:
            weights = (await self.train_quantized(trial, rung)).weights_key
        key = artifact_key(weights, rung, trial.graph_key, self._calibration_digest(trial.plan))
        row = await self._artifact(trial, weights, rung, key)
        measured = self._measuring.latest(trial.graph_key, self.protocols.confirm)
        if measured is None:
            path = self._workspace.store.get(row.sha256)
            measured = await self._measuring.measure(_measurand(trial, path, row), self.protocols.confirm)
        return self._measured(trial.keys(key), row, measured)

    def quiet(self) -> None:
        """End the workers: nothing but the device works from here on."""
        self._context.runner.close()

    async def remeasure_when_idle(self, keys: Keys, plan: Plan) -> bool:
        """Measure an artifact of the front once more, now that nothing else runs; False when that was done before."""
        row = self._ledger.artifact(keys.artifact_key or "")
        if row is None:
            return False
        path = self._workspace.store.get(row.sha256)
        return await self._measuring.again(Measurand(path, row.sha256, keys.graph_key, plan.deployment))

    async def prepare_subsets(self, resolutions: Iterable[int]) -> None:
        """What the device judges by, made while there are workers."""
        await self._judging.prepare(resolutions)

    async def accuracy_on_device(self, keys: Keys, plan: Plan) -> AccuracyRow | None:
        """What the device itself says of an artifact's accuracy; None when it is not asked."""
        row = self._ledger.artifact(keys.artifact_key or "")
        return None if row is None else await self._judging.judge(row, self._workspace.store.get(row.sha256), plan)

    # ---- parts of the stages

    async def _training(
        self, kind: Callable[..., J], trial: ResolvedTrial, recipe: Recipe, start: int, end: float
    ) -> J:
        """Trained on from rung ``start`` of the plan's own training."""
        before = self._ledger.training(trial.weights_key, start)
        return kind(
            workspace=self._workspace,
            spec=trial.spec,
            recipe=recipe,
            start=start,
            end=end,
            checkpoint_sha256=before.checkpoint_sha256 if before else None,
            targets=await self._shared.targets(trial.plan, trial.base),
            base_logits_sha256=await self._shared.base_logits(trial.plan, trial.base),
            images=self.config.proxy_images,
        )

    async def _trained(self, key: str, rung: int, job: Callable[[], Awaitable[TrainJob]]) -> TrainingRow:
        async def make() -> tuple[TrainingRow, StageCost]:
            found, made = await self._context.run(await job())
            return TrainingRow(key, rung, found.accuracy, found.kl, found.n, found.checkpoint_sha256), made

        return await self.single_flight.get(f"train:{key}:{rung}", lambda: self._ledger.training(key, rung), make)

    async def _artifact(self, trial: ResolvedTrial, weights: str, rung: int, key: str) -> ArtifactRow:
        async def make() -> tuple[ArtifactRow, StageCost]:
            trained = self._ledger.training(weights, rung)
            checkpoint = trained.checkpoint_sha256 if trained else None
            job = ExportJob(
                self._workspace,
                trial.spec,
                trial.plan.deployment,
                OPSET,
                self.config.calibration,
                checkpoint,
            )
            out, made = await self._context.run(job)
            detail = {"macs_m": out.macs_m, "params_m": out.params_m, "parity": out.parity}
            accuracy = AccuracyRow(key, self.config.data.fingerprint, out.n, "worker", out.correct)
            self._ledger.add(accuracy, made)
            where = str(self._workspace.store.root)
            return ArtifactRow(key, "onnx", out.sha256, out.size_bytes, where, detail), made

        return await self.single_flight.get(f"artifact:{key}", lambda: self._ledger.artifact(key), make)

    def _measured(self, keys: Keys, artifact: ArtifactRow, measurement: MeasurementRow) -> Measured:
        values, errors = values_of(measurement.result)
        values["size_mb"] = artifact.size_bytes / 1e6
        values["macs_m"] = artifact.detail["macs_m"]
        values["params_m"] = artifact.detail["params_m"]
        seen = self._ledger.accuracy(artifact.artifact_key, self.config.data.fingerprint)
        if seen is not None:
            values["accuracy"] = seen.correct / seen.n
            errors["accuracy"] = wilson(seen.correct, seen.n)
        return Measured(keys, values, errors)

    def _calibration_digest(self, plan: Plan) -> str | None:
        """Of what a quantized file depends on beside weights and graph; None when it depends on no images."""
        method = CALIBRATED.get(plan.deployment.precision)
        if method is None:
            return None
        return digest({"method": method, "data": self.config.data.fingerprint} | asdict(self.config.calibration))


def _measurand(trial: ResolvedTrial, path: Path, row: ArtifactRow) -> Measurand:
    return Measurand(path, row.sha256, trial.graph_key, trial.plan.deployment)
