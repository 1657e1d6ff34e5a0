"""What many trials share: bases, anatomies, and what teachers answer. StageCost once, for whoever comes first."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vitsearch.core.plan import Plan, Recipe
from vitsearch.pipeline.config import StageConfig
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.jobs import (
    Base,
    BaseJob,
    BlockStructureJob,
    DistillationTargets,
    FeaturesJob,
    LogitsJob,
    SensitivityJob,
    Source,
    SubsetJob,
)
from vitsearch.storage.ledger import BlockStructureRow, TrainingRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch_evaluators.base.canonical_json import digest

BLOCK_STRUCTURE_SCHEMA = 1
"""Raised by hand when block structures, scores or statistics change what they hold."""
VALIDATION = "validation"


class SharedStages:
    """One per run. Every call looks into the ledger first."""

    def __init__(self, config: StageConfig, tools: StageContext) -> None:
        self._config = config
        self._context = tools
        self._workspace = tools.workspace
        self._ledger = tools.ledger

    async def unpruned(self, backbone: str, weights: str, recipe: Recipe) -> Base:
        """The model with the user's classes, at its base resolution; trained when its classifier is new."""
        source = Source(backbone, weights, self._config.base_resolution(backbone))
        key = digest(
            {
                "stage": "base",
                "backbone": backbone,
                "resolution": source.resolution,
                "start": self._config.starts(source),
                "recipe": recipe.to_json(),
                "data": self._config.data.__dict__,
            }
        )
        rung = recipe.rungs[-1]

        async def make() -> tuple[TrainingRow, StageCost]:
            base, made = await self._context.run(BaseJob(self._workspace, source, recipe))
            return TrainingRow(key, rung, base.accuracy, None, base.n, base.weights_sha256), made

        row = await self._context.single_flight.get(f"base:{key}", lambda: self._ledger.training(key, rung), make)
        return Base(row.checkpoint_sha256 or "", row.accuracy, row.n)

    async def block_structure(self, source: Source, base: Base) -> BlockStructureRow:
        """What can be cut of it and how important each part is, at this resolution and window."""
        wanted = self._config.structure_calibration
        calibration = digest({"data": self._config.data.fingerprint} | asdict(wanted))
        described = {"weights": base.weights_sha256, "resolution": source.resolution, "calibration": calibration}
        windows = {} if source.window_size is None else {"window_size": source.window_size}
        key = digest({"schema": BLOCK_STRUCTURE_SCHEMA} | described | windows)

        async def make() -> tuple[BlockStructureRow, StageCost]:
            found, made = await self._context.run(BlockStructureJob(self._workspace, source, wanted))
            row = BlockStructureRow(
                key,
                base.weights_sha256,
                source.resolution,
                calibration,
                found.block_structure,
                found.scores,
                found.statistics_sha256,
            )
            return row, made

        return await self._context.single_flight.get(
            f"block_structure:{key}", lambda: self._ledger.block_structure(key), make
        )

    async def rounding_sensitivity(self, source: Source, base: Base) -> dict[str, float]:
        """Of each layer of the unpruned model alone; made once for all plans that mix precisions."""
        calibration = asdict(self._config.calibration) | {"data": self._config.data.fingerprint}
        seen = {"weights": base.weights_sha256, "resolution": source.resolution, "window": source.window_size}
        key = digest({"stage": "sensitivity", "calibration": calibration} | seen)

        sha256 = await self._context.file(key, SensitivityJob(self._workspace, source, self._config.calibration))
        sensitivity: dict[str, float] = json.loads(self._workspace.store.get(sha256).read_text())
        return sensitivity

    async def teacher(self, plan: Plan, own: Base) -> Base | None:
        """None without distillation; the backbone's own unpruned model unless the file names a teacher."""
        if plan.distillation == "none":
            return None
        named = self._config.teacher
        return own if named is None else await self.unpruned(named.backbone, named.weights, named.recipe)

    async def targets(self, plan: Plan, base: Base) -> DistillationTargets:
        """What a fine-tune learns from: logits (and features, for hints) that are made once for all plans,
        or, where images are augmented, the teacher itself. Both at the teacher's own resolution."""
        teacher = await self.teacher(plan, base)
        if teacher is None:
            return DistillationTargets(plan.distillation)
        source = self.unpruned_source(self._config.teacher.backbone if self._config.teacher else plan.backbone, teacher)
        if not plan.recipe.augmentation.is_none:
            return DistillationTargets(plan.distillation, live_teacher=source)
        job = LogitsJob(self._workspace, source, "train", plan.recipe, images=0)
        logits, features = await self._answers(job, teacher), None
        if plan.distillation == "feature":
            job = FeaturesJob(self._workspace, source, "train", plan.recipe, images=0)
            features = await self._answers(job, teacher)
        return DistillationTargets(plan.distillation, logits, features)

    async def base_logits(self, plan: Plan, base: Base) -> str:
        """What the unpruned model answers on validation images: what divergence is taken from."""
        source = self.unpruned_source(plan.backbone, base)
        job = LogitsJob(self._workspace, source, VALIDATION, plan.recipe, self._config.proxy_images)
        return await self._answers(job, base)

    async def subset(self, resolution: int | None, images: int) -> Path:
        """So many validation images at a resolution, or (None) their labels, as a device takes them."""
        described = {"stage": "subset", "data": self._config.data.fingerprint, "resolution": resolution}
        job = SubsetJob(self._workspace, resolution, images)
        sha256 = await self._context.file(digest(described | {"images": images}), job)
        return self._workspace.store.get(sha256)

    async def _answers(self, job: LogitsJob, model: Base) -> str:
        """The file of what ``model`` answers."""
        pool = [job.recipe.images_per_epoch, job.recipe.rungs[-1], job.recipe.seed]
        key = digest(
            {
                "stage": job.kind,
                "weights": model.weights_sha256,
                "resolution": job.source.resolution,
                "data": self._config.data.fingerprint,
                "split": job.split,
                "seen": pool if job.split == "train" else [job.images],
            }
        )

        return await self._context.file(key, job)

    def source(self, backbone: str, base: Base, resolution: int) -> Source:
        return Source(backbone, f"file:{self._workspace.store.get(base.weights_sha256)}", resolution)

    def unpruned_source(self, backbone: str, base: Base) -> Source:
        return self.source(backbone, base, self._config.base_resolution(backbone))
