"""The stages of a trial as awaitable calls: looked up in the ledger, else made once and written there.

The order of writing is always: file stored, ledger row, then Optuna. A stage that two trials want at
the same time is made once; a stage that another driver is making (its claim is alive) is waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TypeVar

from vitsearch.core.figures import NO_METRICS, Figure, Metrics, metrics_of_file
from vitsearch.core.fleet import Fleet
from vitsearch.core.keys import ExportTarget, Origin, UnprunedWeights, trial_keys
from vitsearch.core.networks import architecture_of, exporter_for
from vitsearch.core.plan import Plan, Recipe
from vitsearch.core.precisions import CALIBRATED, TRAINED
from vitsearch.core.record import Keys
from vitsearch.core.resolve import resolve
from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.devices.deployable import opset_on, version_on
from vitsearch.devices.fleet import waiting
from vitsearch.pipeline.config import StageConfig, Teacher
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.device_accuracy import DeviceAccuracy
from vitsearch.pipeline.fleet_measure import measurements_on
from vitsearch.pipeline.measure import ModelFile
from vitsearch.pipeline.resolved_trial import KeyedModel, ResolvedTrial
from vitsearch.pipeline.shared_stages import SharedParts, SharedStages
from vitsearch.stages import (
    Base,
    CompressionSpec,
    Evaluation,
    ExportJob,
    Images,
    ProxyJob,
    QatJob,
    ScreenJob,
    TrainJob,
)
from vitsearch.stages.calibration import Calibrations
from vitsearch.storage.files import ScratchFiles, Store
from vitsearch.storage.ledger import ArtifactRow, EvaluationRow, TrainingRow
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.stage_cost import StageCost
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.wire.protocol import MeasureProtocol

NOT_EVALUATED = "it is evaluated when a model is confirmed"
J = TypeVar("J", bound=TrainJob)


class Pipeline:
    """Makes each stage of a trial once and looks it up afterwards. One per run."""

    def __init__(self, config: StageConfig, context: StageContext, device: DeviceGroup) -> None:
        self.config = config
        self.context = context
        self._ledger = context.ledger
        self._workspace = context.workspace
        self._shared = SharedStages(config, context)
        self._scratch_files = ScratchFiles(context.workspace.scratch)
        self.device = waiting(device, self._workers_are_busy)
        self._measurements = measurements_on(context, self.device.devices, config.phases, config.fleet_weights)
        self.protocols = self._measurements.protocols
        self._device_accuracies = {
            member.name: DeviceAccuracy(config, context, self._shared, member) for member in self.device.devices
        }
        self.bases: dict[str, Mapping[str, float]] = {}
        """The qualities of every base that is known by now, on the validation split, by backbone."""

    # ---- the stages, in order

    async def resolve(self, plan: Plan) -> ResolvedTrial:
        """Resolve `plan` on its backbone. Trains the backbone's base first when its classifier is new."""
        shared = await self._shared.parts(plan)
        self.bases[plan.backbone] = shared.base.qualities
        return self._resolved(plan, shared)

    async def resolve_untrained(self, plan: Plan) -> ResolvedTrial:
        """Resolve `plan` on its backbone with random weights, for `count` and `screen` alone: its graph, and what that
        costs, is that of the trained backbone where every block loses the same share (`pruning_scope: uniform`)."""
        return self._resolved(plan, await self._shared.untrained_parts(plan))

    def has_base(self, plan: Plan) -> bool:
        """Whether the base of a plan is trained, or needed no training."""
        return self._shared.has_base(plan)

    def _resolved(self, plan: Plan, shared: SharedParts) -> ResolvedTrial:
        config = self.config
        resolved = resolve(plan, shared.structure, shared.scores, shared.sensitivity)
        calibrations = Calibrations.of(
            resolved, shared.structure, config.base_resolution(plan.backbone), config.structure_calibration
        )
        base, teacher = self._unpruned(plan, shared.base), None
        if config.teacher is not None and shared.teacher is not None:
            teacher = self._unpruned(config.teacher, shared.teacher)
        origin, target = Origin(base, teacher, calibrations.digest(config.structure_calibration)), self._target(plan)
        keys = trial_keys(resolved, plan, origin, config.data, target)
        spec = CompressionSpec(shared.source, resolved, shared.statistics_sha256, calibrations)
        return ResolvedTrial(plan, shared, spec, target, keys, self.device.info.device_id)

    def _target(self, plan: Plan) -> ExportTarget:
        devices, deployment = self.device.devices, plan.deployment
        method, calibration = CALIBRATED.get(deployment.precision), None
        if method is not None:
            images = {"method": method, "data": self.config.judged_by} | asdict(self.config.calibration)
            calibration = digest(images)
        qat = self.config.qat.of(plan.backbone)
        networks = self._workspace.networks
        exporter = exporter_for(plan.backbone, networks)
        opset, version = opset_on(devices, deployment, exporter), version_on(devices, deployment)
        return ExportTarget(opset, version, calibration, qat, exporter, architecture_of(plan.backbone, networks))

    def _unpruned(self, model: Plan | Teacher, base: Base) -> UnprunedWeights:
        view, architecture = self.config.base_view(model), architecture_of(model.backbone, self._workspace.networks)
        return UnprunedWeights(base.weights_sha256, view.resolution, view.preprocessing, architecture)

    async def screen(self, trial: ResolvedTrial, rounds: int = 1) -> Metrics:
        """The cost of the graph, built from the starting weights: nothing was trained for it.

        It is measured `rounds` times by the screening protocol, counting earlier ones.
        """
        graph_key, scratch = trial.stage_keys.graph, self._workspace.scratch
        row = await self._screened_file(trial)
        if self._measurements.rounds(graph_key, self.protocols.screen) < rounds:
            with self._scratch_files.using(row.sha256):
                if not scratch.holds(row.sha256):  # measured and dropped, or the folder was emptied
                    job = self._screening(trial)
                    graph, _ = await self.context.run(job)
                    row = job.row(graph)
                with self._scratch_files.using(row.sha256):  # a rebuilt file may have another digest
                    file = _file(row, scratch, graph_key, trial.plan)
                    await self._measurements.measure(file, self.protocols.screen, rounds)
        elif self._measurements.pooled(graph_key) is None:  # another driver has measured it
            self._measurements.reload(graph_key)
        return self._metrics(row, graph_key)

    async def count(self, trial: ResolvedTrial) -> Metrics:
        """What the file of the graph says without a device: size, MACs and parameters."""
        return self._of_file(await self._screened_file(trial))

    async def float_weights(self, trial: ResolvedTrial) -> Mapping[str, int]:
        """The layers that the file of a graph has in floats, and their bytes; empty where it says nothing of them."""
        weights: dict[str, int] = (await self._screened_file(trial)).detail.get("float_weights", {})
        return weights

    async def _screened_file(self, trial: ResolvedTrial) -> ArtifactRow:
        job = self._screening(trial)

        async def screening() -> ScreenJob:
            return job

        return await self.context.once(
            StageKey(job.stage, job.artifact_key), lambda: self._ledger.artifact(job.artifact_key), screening, job.row
        )

    def _screening(self, trial: ResolvedTrial) -> ScreenJob:
        target = trial.target
        return ScreenJob(
            self._workspace,
            trial.spec,
            trial.plan.deployment,
            target.opset,
            self.config.calibration,
            runtime_version=target.version,
            artifact_key=trial.stage_keys.screened,
        )

    async def proxy(self, trial: ResolvedTrial) -> Evaluation:
        """Rung 0: qualities and divergence of the refitted model, without a gradient step."""
        key = trial.stage_keys.weights

        async def job() -> ProxyJob:
            reference = await self._shared.reference(trial.plan, trial.shared.base)
            return ProxyJob(self._workspace, trial.spec, reference)

        stage = StageKey(Stage.PROXY, key)
        row = await self.context.once(stage, lambda: self._ledger.training(key, 0), job, lambda seen: seen.row(key, 0))
        return Evaluation.of_row(row)

    async def train(self, trial: ResolvedTrial, rung: int) -> TrainingRow:
        """Fine-tune from the rung before to `rung`."""
        recipe = trial.plan.recipe
        before = recipe.rungs[recipe.rungs.index(rung) - 1]

        async def job() -> TrainJob:
            return await self._training(TrainJob, trial, recipe, before, rung)

        return await self._trained(Stage.TRAIN, trial.stage_keys.weights, rung, job)

    def is_trained(self, trial: ResolvedTrial) -> bool:
        """Whether the weights of a plan have all their rungs already: one training serves every deployment."""
        last = trial.plan.recipe.rungs[-1]
        return last > 0 and self._ledger.training(trial.stage_keys.weights, last) is not None

    async def export(self, trial: ResolvedTrial, rung: int) -> None:
        """Make the model of a trained trial and evaluate it: the last of its stages that a worker makes."""
        await self._artifact(trial, rung)

    async def confirm(self, trial: ResolvedTrial, rung: int) -> tuple[Keys, Metrics]:
        """The exported artifact with its accuracy on its own runtime. It costs what its graph was screened at, unless
        an objective or limit needs the confirmation measurement.

        For int8_qat the model is trained with int8 rounding first, unless it is an unpruned model of the
        leaderboard, which is never trained.
        """
        return await self._measured(
            trial, rung, self.protocols.confirm if self.config.confirms else self.protocols.screen
        )

    async def evaluate(self, trial: ResolvedTrial, rung: int) -> tuple[Keys, Metrics]:
        """The exported artifact, as `confirm`, with the screening measurement."""
        return await self._measured(trial, rung, self.protocols.screen)

    async def _measured(self, trial: ResolvedTrial, rung: int, protocol: MeasureProtocol) -> tuple[Keys, Metrics]:
        row, keys = await self._artifact(trial, rung), trial.exported(rung)
        file = _file(row, self._workspace.store, keys.graph_key, trial.plan)
        await self._measurements.measure(file, protocol)
        return keys, self._metrics(row, keys.graph_key)

    # ---- a device that has changed

    def is_measured_now(self, keys: Keys) -> bool:
        """Whether a graph was measured in the present environment of the device."""
        return self._measurements.pooled(keys.graph_key) is not None

    async def measure_now(self, model: KeyedModel) -> bool:
        """Measure an artifact once in the present environment; False when its file is gone."""
        row = await self._stored_artifact(model.keys)
        if row is None:
            return False
        protocol = self.protocols.confirm if self.config.confirms else self.protocols.screen
        await self._measurements.measure(self._stored_file(row, model), protocol)
        return True

    # ---- the end of a run

    async def prepare_subsets(self, plans: Iterable[Plan]) -> None:
        """Make the images that the device classifies, while there are workers."""
        views = [self.config.view(plan) for plan in plans]
        for device_accuracy in self._device_accuracies.values():
            await device_accuracy.prepare(views)

    async def restore(self, model: KeyedModel, rung: int) -> None:
        """Make the exported model of a confirmed trial, and what it is resolved with, again where a file is gone."""
        if await self._stored_artifact(model.keys) is None:
            await self._artifact(await self.resolve(model.plan), rung)
        else:
            await self._shared.parts(model.plan)

    async def truth(self, images: Images) -> str | None:
        """The file of what the reference of the study gives for these images; None for a task without one."""
        return await self._shared.truth(images)

    def stop_workers(self) -> None:
        """From here on only the device works."""
        self.context.runner.close()

    async def remeasure(self, model: KeyedModel, confirmations: int) -> bool:
        """Measure an artifact once more if it is not settled or, in a study that confirms every model, until it was
        confirmed so often; False when that was done before or its file is gone."""
        if self.config.confirms:
            return await self._confirm_until(model, confirmations)
        self._measurements.reload(model.keys.graph_key)  # another driver may have measured it
        row = await self._stored_artifact(model.keys)
        if row is None or self._measurements.is_settled(model.keys.graph_key):
            return False
        await self._measurements.settle(self._stored_file(row, model))
        return True

    def last_measured(self, keys: Keys) -> float:
        """When a graph was measured last, in seconds since 1970; 0 if it never was."""
        pooled = self._measurements.pooled(keys.graph_key)
        return 0.0 if pooled is None else pooled.last_at.timestamp()

    def waited(self, keys: Keys) -> float | None:
        """For which share of its CPU time the last measurement of a graph waited for a core; None if nobody counted."""
        pooled = self._measurements.pooled(keys.graph_key)
        return None if pooled is None else pooled.waited

    async def measure_to_ship(self, model: KeyedModel, again: bool) -> None:
        """Confirm an artifact in the present environment, unless that was done before; `again` adds a measurement."""
        done = self._measurements.rounds(model.keys.graph_key, self.protocols.confirm)
        await self._confirm_until(model, done + 1 if again else 1)

    async def _confirm_until(self, model: KeyedModel, confirmations: int) -> bool:
        """Confirm an artifact until it was so often; False when that was done before or its file is gone."""
        row = await self._stored_artifact(model.keys)
        if row is None:
            return False
        if self._measurements.rounds(model.keys.graph_key, self.protocols.confirm) >= confirmations:
            self._measurements.reload(model.keys.graph_key)  # perhaps by another driver
            return False
        await self._measurements.measure(self._stored_file(row, model), self.protocols.confirm, confirmations)
        return True

    async def accuracy_on_device(self, name: str, model: KeyedModel) -> EvaluationRow | None:
        """The accuracy of an artifact on the device `name` itself; None when the study does not request it or its
        file is gone."""
        row = await self._stored_artifact(model.keys)
        ask = self._device_accuracies[name].ask
        return None if row is None else await ask(row, self._stored_file(row, model), model.plan.resolution)

    # ---- parts of the stages

    async def _stored_artifact(self, keys: Keys) -> ArtifactRow | None:
        row = self._ledger.artifact(keys.artifact_key or "")
        return row if row is not None and await self.context.single_flight.holds(row.sha256) else None

    def _stored_file(self, row: ArtifactRow, model: KeyedModel) -> ModelFile:
        return _file(row, self._workspace.store, model.keys.graph_key, model.plan)

    def _workers_are_busy(self) -> bool:
        return any(not stage.needs_device for stage in self.context.single_flight.running)

    async def _train_int8(self, trial: ResolvedTrial, rung: int) -> TrainingRow:
        """What was trained up to `rung`, trained further with the rounding of static int8 in place."""
        plan, settings = trial.plan, self.config.qat
        recipe, end = settings.recipe(plan.recipe, plan.backbone), rung + settings.epochs(rung)

        async def job() -> QatJob:
            calibrated = partial(QatJob, calibration=self.config.calibration)
            return await self._training(calibrated, trial, recipe, rung, end)

        return await self._trained(Stage.TRAIN_INT8, trial.stage_keys.exports[rung].weights, rung, job)

    async def _training(
        self, kind: Callable[..., J], trial: ResolvedTrial, recipe: Recipe, start: int, end: float
    ) -> J:
        """The job that trains from rung `start` of the plan's own training."""
        row = await self.train(trial, start) if start else None
        return kind(
            workspace=self._workspace,
            spec=trial.spec,
            recipe=recipe,
            start=start,
            end=end,
            checkpoint_sha256=row.checkpoint_sha256 if row else None,
            targets=await self._shared.targets(trial.plan, trial.shared.teacher),
            reference=await self._shared.reference(trial.plan, trial.shared.base),
            before=Evaluation.of_row(row) if row else await self.proxy(trial),
            keeps="best" if self._learns_of_another(trial) else "nearest",
        )

    def _learns_of_another(self, trial: ResolvedTrial) -> bool:
        """Whether the teacher of a plan is neither its own base nor the reference of the study."""
        teacher, base = trial.shared.teacher, trial.shared.base
        is_own = teacher is None or teacher.weights_sha256 == base.weights_sha256
        return not is_own and self.config.teacher not in (None, self.config.reference)

    async def _trained(self, stage: Stage, key: str, rung: int, job: Callable[[], Awaitable[TrainJob]]) -> TrainingRow:
        return await self.context.once(
            StageKey(stage, f"{key}:{rung}"),
            lambda: self._ledger.training(key, rung),
            job,
            lambda trained: trained.row(key, rung),
        )

    async def _artifact(self, trial: ResolvedTrial, rung: int) -> ArtifactRow:
        """The exported model after `rung`; its weights are trained again when their file is gone."""
        key = trial.stage_keys.exports[rung].artifact
        train = self._train_int8 if _is_int8(trial, rung) else self.train

        async def make() -> tuple[ArtifactRow, StageCost]:
            deployment = trial.plan.deployment
            job = ExportJob(
                self._workspace,
                trial.spec,
                deployment,
                trial.target.opset,
                self.config.calibration,
                (await train(trial, rung)).checkpoint_sha256 if rung else None,
                deployment.batch or self.protocols.confirm.batch or 1,
                await self._shared.truth("validation"),
                runtime_version=trial.target.version,
                artifact_key=key,
            )
            exported, cost = await self.context.run(job)
            self._ledger.add(job.evaluation_row(exported, self.config.judged_by), cost)
            start = {"preprocessing": asdict(trial.spec.source.preprocessing), "start": trial.shared.start}
            return job.row(exported, start), cost

        stage = StageKey(Stage.EXPORT, key)
        return await self.context.single_flight.get(stage, lambda: self._ledger.artifact(key), make)

    def shares(self, keys: Keys) -> dict[str, float]:
        """The shares of the MACs of an artifact in each precision; empty where they are unknown."""
        row = self._ledger.artifact(keys.artifact_key or "")
        return {} if row is None else dict(row.detail.get("shares", {}))

    @property
    def fleet(self) -> Fleet | None:
        """The devices of a study that has several."""
        return self._measurements.fleet

    def device_metrics(self, keys: Keys) -> Metrics:
        """What is known now of a graph on the device, from all its measurements."""
        pooled = self._measurements.pooled(keys.graph_key)
        return NO_METRICS if pooled is None else pooled.metrics

    @property
    def device_results(self) -> Mapping[str, DeviceResults]:
        """What was measured on the device, by its id."""
        return self._measurements.results

    def device_changes(self) -> Sequence[str | None]:
        """The graphs of which more became known on the device, in order; None where all may have other figures."""
        return self._measurements.changes()

    def file_metrics(self, keys: Keys) -> Metrics:
        """What is known of an exported model without a device; nothing where there is none."""
        row = self._ledger.artifact(keys.artifact_key or "")
        return NO_METRICS if row is None else self._of_file(row)

    def _metrics(self, artifact: ArtifactRow, graph: str) -> Metrics:
        """What the device measured, with what is known of the file."""
        pooled = self._measurements.pooled(graph)
        assert pooled is not None  # it was just measured
        return pooled.metrics | self._of_file(artifact)

    def _of_file(self, artifact: ArtifactRow) -> Metrics:
        """Size, MACs, parameters and, where it was evaluated, the metrics of the task."""
        is_untrained = artifact.kind == Stage.SCREEN  # the file of a screening, which nobody evaluates
        evaluated = None if is_untrained else self._ledger.evaluation(artifact.artifact_key, self.config.judged_by)
        if evaluated is None:
            names = (metric.name for metric in self.config.task.metrics)
            qualities = Metrics(dict.fromkeys(names, Figure(None, reason=NOT_EVALUATED)))
        else:
            qualities = evaluated.metrics
        return qualities | metrics_of_file(artifact.size_bytes, artifact.detail)


def _is_int8(trial: ResolvedTrial, rung: int) -> bool:
    """Whether the weights of an exported model were trained with int8 rounding."""
    return rung > 0 and trial.plan.deployment.precision in TRAINED


def _file(row: ArtifactRow, store: Store, graph_key: str, plan: Plan) -> ModelFile:
    detail = row.detail
    deployment = plan.deployment.with_options(tuple(detail.get("options", {}).items()))
    return ModelFile(partial(store.model, row.sha256), graph_key, deployment, detail.get("structure"))
