"""What many trials share: bases, block structures, and the outputs of teachers. Made once, for the first that asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitsearch.core.image_size import MAP_SHARE
from vitsearch.core.networks import PythonNetwork, architecture_of, network_named
from vitsearch.core.plan import Plan, Recipe
from vitsearch.core.precisions import MIXED
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.resolve import BlockStructure, Scores
from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.config import StageConfig, Teacher
from vitsearch.pipeline.context import StageContext
from vitsearch.stages import (
    STORED,
    Base,
    BaseJob,
    BlockStructureJob,
    DistillationTargets,
    FeaturesJob,
    Images,
    LogitsJob,
    Reference,
    SensitivityJob,
    Source,
    SubsetJob,
)
from vitsearch.stages.base import base_key
from vitsearch.stages.block_structure import block_structure_key
from vitsearch.stages.sensitivity import sensitivity_key
from vitsearch.storage.files import place_of
from vitsearch.storage.ledger import BlockStructureRow, TrainingRow
from vitsearch_agent.base.canonical_json import digest

MAPS_MAX_BYTES = 512 * 2**20
"""Maps of a teacher are kept up to this size; larger ones are made again in each step of a training."""


@dataclass(frozen=True)
class SharedParts:
    """What trials of one backbone at one resolution and window share.

    `start` is the digest of the starting weights, `source` the unpruned model there; `sensitivity` the KL in nats
    that rounding each layer alone gives (None where no precision is mixed); `teacher` is None without distillation.
    """

    start: str
    base: Base
    source: Source
    structure: BlockStructure
    scores: Scores
    statistics_sha256: str
    sensitivity: Mapping[str, float] | None
    teacher: Base | None


class SharedStages:
    """Makes what trials share. Every call looks into the ledger first. One per run."""

    def __init__(self, config: StageConfig, context: StageContext) -> None:
        self._config = config
        self._context = context
        self._workspace = context.workspace
        self._ledger = context.ledger
        self._parsed: dict[str, tuple[BlockStructure, Scores]] = {}
        self._untrained: dict[Source, BlockStructure] = {}
        self._reference = None if config.reference is None else self._start(config.reference)

    async def parts(self, plan: Plan) -> SharedParts:
        """Everything that a plan shares with others and that its resolution needs."""
        start = self._start(plan)
        starting_digest = self._config.starting_digest(start)
        base = await self._base(start, starting_digest, self._config.base_recipe)
        source = replace(_unpruned(start, base), resolution=plan.resolution, window_size=plan.window_size)
        row = await self._block_structure(source, base)
        if row.key not in self._parsed:
            self._parsed[row.key] = BlockStructure.from_json(row.block_structure), Scores.from_json(row.scores)
        structure, scores = self._parsed[row.key]
        is_mixed = plan.deployment.precision in MIXED
        return SharedParts(
            starting_digest,
            base,
            source,
            structure,
            scores,
            row.statistics_sha256,
            await self._sensitivity(source, base) if is_mixed else None,
            await self._teacher(plan, base),
        )

    async def untrained_parts(self, plan: Plan) -> SharedParts:
        """What the cost of a plan needs, before a base is trained: the structure of its backbone with random weights.
        Its result is not stored."""
        start = replace(self._start(plan), weights="none")
        source = replace(start, resolution=plan.resolution, window_size=plan.window_size)
        if source not in self._untrained:
            analysis, _ = await self._context.run(BlockStructureJob(self._workspace, source, None))
            self._untrained[source] = BlockStructure.from_json(analysis.block_structure)
        structure, weights = self._untrained[source], self._config.starting_digest(start)
        return SharedParts(weights, Base(weights, {}, 0), source, structure, Scores.equal(structure), "", None, None)

    def has_base(self, plan: Plan) -> bool:
        """Whether the base of a plan is trained, or needed no training."""
        start, recipe = self._start(plan), self._config.base_recipe
        key = self._base_key(start, self._config.starting_digest(start), recipe)
        return self._ledger.training(key, recipe.rungs[-1]) is not None

    async def _base(self, source: Source, starting_digest: str, recipe: Recipe) -> Base:
        """The model with the user's classes, at its base resolution; trained when its classifier is new."""
        key, rung = self._base_key(source, starting_digest, recipe), recipe.rungs[-1]
        checkpoint = self._workspace.scratch.root / place_of(key)

        async def job() -> BaseJob:
            job = BaseJob(self._workspace, source, recipe, checkpoint=checkpoint)
            if self._reference is None or source == self._reference:
                return job
            targets, truth = await self._base_targets(recipe), await self.truth("validation")
            return replace(job, targets=targets, truth_sha256=truth)

        def kept(base: Base) -> TrainingRow:
            if base.note is not None:
                self._context.progress.note(f"{source.backbone}: {base.note}")
            return base.row(key, rung)

        row = await self._context.once(StageKey(Stage.BASE, key), lambda: self._ledger.training(key, rung), job, kept)
        checkpoint.unlink(missing_ok=True)
        return Base.of_row(row)

    def _base_key(self, source: Source, starting_digest: str, recipe: Recipe) -> str:
        return base_key(source, starting_digest, recipe, self._config.data)

    async def reference(self, plan: Plan, base: Base) -> Reference:
        """What compressed models are compared with: the unpruned model on the holdout."""
        job = LogitsJob(self._workspace, _unpruned(self._start(plan), base), "holdout", plan.recipe)
        return Reference(await self._outputs(job, base), base.qualities, await self.truth("holdout"))

    async def truth(self, images: Images) -> str | None:
        """The outputs of the reference of the study for these images; None for a task without one."""
        if self._reference is None or self._config.reference is None:
            return None
        base = await self._reference_base()
        job = LogitsJob(self._workspace, _unpruned(self._reference, base), images, self._config.reference.recipe)
        return await self._outputs(job, base)

    async def truth_file(self, images: Images) -> Path | None:
        """The file with the outputs of the reference for these images; None for a task without one."""
        sha256 = await self.truth(images)
        return None if sha256 is None else await self._fetched(sha256)

    async def _reference_base(self) -> Base:
        assert self._reference is not None
        assert self._config.reference is not None
        digest_of_start = self._config.starting_digest(self._reference)
        return await self._base(self._reference, digest_of_start, self._config.reference.recipe)

    async def _base_targets(self, recipe: Recipe) -> DistillationTargets:
        """What a base learns of the reference of the study, instead of labels."""
        assert self._reference is not None
        if not recipe.augmentation.is_none:
            source = _unpruned(self._reference, await self._reference_base())
            return DistillationTargets("logits", live_teacher=source)
        return DistillationTargets("logits", await self.truth("learned"))

    async def targets(self, plan: Plan, teacher: Base | None) -> DistillationTargets:
        """What a fine-tune learns from beside the labels: logits (and features, for hints) that are made once for
        all plans, or, where images are augmented or maps would take too much space, the teacher itself. Both at the
        teacher's own resolution."""
        if teacher is None:
            return DistillationTargets(plan.distillation)
        source = _unpruned(self._start(self._config.teacher or plan), teacher)
        if not (plan.recipe.augmentation.is_none and self._can_be_kept(source, plan.recipe)):
            return DistillationTargets(plan.distillation, live_teacher=source)
        job = LogitsJob(self._workspace, source, "train", plan.recipe)
        logits, features = await self._outputs(job, teacher), None
        if plan.distillation == "feature":
            job = FeaturesJob(self._workspace, source, "train", plan.recipe)
            features = await self._outputs(job, teacher)
        return DistillationTargets(plan.distillation, logits, features)

    def _can_be_kept(self, source: Source, recipe: Recipe) -> bool:
        """Whether the outputs of a teacher for all images that a plan learns from are small enough to keep."""
        if not self._config.task.gives_map:
            return True
        images, positions = recipe.images_per_epoch * recipe.rungs[-1], source.resolution.pixels // MAP_SHARE**2
        return 4 * images * self._config.data.classes * positions <= MAPS_MAX_BYTES

    async def subset(self, view: ModelView | None, images: int) -> Path:
        """The file of so many validation images (`spread_rows`) as a model sees them, or (None) of their labels."""
        job = SubsetJob(self._workspace, view, images)
        sha256 = await self._context.file(job.key(self._config.data.fingerprint), job)
        return await self._fetched(sha256)

    async def _block_structure(self, source: Source, base: Base) -> BlockStructureRow:
        """What can be cut of a model and how important each part is, at this resolution and window."""
        wanted = self._config.structure_calibration
        calibration = digest({"data": self._config.judged_by} | asdict(wanted))
        network = network_named(source.backbone, self._workspace.networks)
        own = network.structure if isinstance(network, PythonNetwork) else None
        key = block_structure_key(self._in_keys(source, base), calibration, source.window_size, own)

        async def job() -> BlockStructureJob:
            return BlockStructureJob(self._workspace, source, wanted)

        return await self._context.once(
            StageKey(Stage.BLOCK_STRUCTURE, key),
            lambda: self._ledger.block_structure(key),
            job,
            lambda seen: seen.row(key, base.weights_sha256, str(source.resolution), calibration),
        )

    async def _sensitivity(self, source: Source, base: Base) -> dict[str, float]:
        """KL in nats from rounding each layer of the unpruned model alone; shared by all mixed-precision plans."""
        calibration = asdict(self._config.calibration) | {"data": self._config.judged_by}
        key = sensitivity_key(self._in_keys(source, base), calibration, source.window_size)
        sha256 = await self._context.file(key, SensitivityJob(self._workspace, source, self._config.calibration))
        sensitivity: dict[str, float] = json.loads((await self._fetched(sha256)).read_text())
        return sensitivity

    async def _fetched(self, sha256: str) -> Path:
        """A file of the store, which may be far away."""
        return await asyncio.to_thread(self._workspace.store.get, sha256)

    async def _teacher(self, plan: Plan, own: Base) -> Base | None:
        """The base to distil from: the backbone's own unpruned model unless the file names a teacher; None without
        distillation."""
        if plan.distillation == "none":
            return None
        named = self._config.teacher
        if named is None:
            return own
        start = self._start(named)
        return await self._base(start, self._config.starting_digest(start), named.recipe)

    async def _outputs(self, job: LogitsJob, model: Base) -> str:
        """The file of what `model` gives for the images of `job`."""
        key = job.key(self._in_keys(job.source, model), self._config.data.fingerprint)
        return await self._context.file(key, job)

    def _in_keys(self, source: Source, base: Base) -> dict[str, Any]:
        """What enters keys of what depends on an unpruned model. Its weights alone do not say what is computed with
        them: its name does, and of a network of the user's its architecture."""
        architecture = architecture_of(source.backbone, self._workspace.networks)
        model = {"backbone": source.backbone, "weights": base.weights_sha256, "view": source.view.in_keys()}
        return model | ({"architecture": architecture} if architecture else {})

    def _start(self, model: Plan | Teacher) -> Source:
        """The starting weights of a plan or teacher, at the resolution at which its base is trained."""
        view = self._config.base_view(model)
        return Source(model.backbone, model.weights, view.resolution, view.preprocessing)


def _unpruned(start: Source, base: Base) -> Source:
    """The base that was made of `start`."""
    return replace(start, weights=f"{STORED}{base.weights_sha256}", trained_at=start.resolution)
