"""The accuracy of one model on the test images. Asked for what is shipped alone: nothing else reads these images."""

from __future__ import annotations

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Shipped
from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.jobs import ShipJob, Source
from vitsearch.storage.ledger import ArtifactRow
from vitsearch.storage.shipped import key_of, of_row, to_row
from vitsearch.storage.stage_cost import StageCost

BUNDLED_IMAGES = 500


async def on_test(context: StageContext, plan: Plan, keys: Keys, fingerprint: str, again: bool = False) -> Shipped:
    """Evaluate the stored artifact of `keys` on the test images of the data with this fingerprint, once, or
    `again`."""
    ledger = context.ledger
    artifact = ledger.artifact(keys.artifact_key or "")
    assert artifact is not None  # a confirmed trial has one
    evaluated = ledger.evaluation(artifact.artifact_key, fingerprint)
    key = key_of(artifact.artifact_key, fingerprint)

    async def make() -> tuple[ArtifactRow, StageCost]:
        job = ShipJob(
            context.workspace,
            Source(plan.backbone, plan.weights, plan.resolution, artifact.preprocessing, plan.window_size),
            plan.deployment.with_options(tuple(artifact.detail.get("options", {}).items())),
            artifact.sha256,
            artifact.detail.get("judged_sha256"),
            evaluated.batch if evaluated else plan.deployment.batch or 1,
            BUNDLED_IMAGES,
        )
        shipped, cost = await context.run(job)
        return to_row(shipped, key, context.workspace.store.address), cost

    if again and (stored := ledger.artifact(key)) is not None:
        ledger.drop(stored)
    row = await context.single_flight.get(StageKey(Stage.SHIP, key), lambda: ledger.artifact(key), make)
    return of_row(row)
