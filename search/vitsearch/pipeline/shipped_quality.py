"""The quality of one model on the test images. Asked for what is shipped alone: nothing else reads these images."""

from __future__ import annotations

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Shipped
from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.stages import ShipJob, Source
from vitsearch.storage.ledger import ArtifactRow
from vitsearch.storage.shipped import key_of, of_row, to_row
from vitsearch.storage.stage_cost import StageCost

BUNDLED_IMAGES = 500


async def on_test(pipeline: Pipeline, plan: Plan, keys: Keys, again: bool = False) -> Shipped:
    """Evaluate the stored artifact of `keys` on the test images of the study, once, or `again`."""
    context, judged_by = pipeline.context, pipeline.config.judged_by
    ledger = context.ledger
    artifact = ledger.artifact(keys.artifact_key or "")
    assert artifact is not None  # a confirmed trial has one
    evaluated = ledger.evaluation(artifact.artifact_key, judged_by)
    key = key_of(artifact.artifact_key, judged_by)

    async def make() -> tuple[ArtifactRow, StageCost]:
        job = ShipJob(
            context.workspace,
            Source(plan.backbone, plan.weights, plan.resolution, artifact.preprocessing, plan.window_size),
            plan.deployment.with_options(tuple(artifact.detail.get("options", {}).items())),
            artifact.sha256,
            artifact.detail.get("judged_sha256"),
            evaluated.batch if evaluated else plan.deployment.batch or 1,
            BUNDLED_IMAGES,
            await pipeline.truth("shipped"),
        )
        shipped, cost = await context.run(job)
        return to_row(shipped, key, context.workspace.store.address), cost

    if again and (stored := ledger.artifact(key)) is not None:
        ledger.drop(stored)
    row = await context.single_flight.get(StageKey(Stage.SHIP, key), lambda: ledger.artifact(key), make)
    return of_row(row)
