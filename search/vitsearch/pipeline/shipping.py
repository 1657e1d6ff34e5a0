"""The accuracy of one model on the test images. Asked for what is shipped alone: nothing else reads these images."""

from __future__ import annotations

from dataclasses import asdict

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys
from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.jobs import ShipJob, Source
from vitsearch.storage.ledger import ArtifactRow
from vitsearch.storage.shipped import Shipped, key_of
from vitsearch.storage.stage_cost import StageCost

BUNDLED_IMAGES = 500


async def on_test(context: StageContext, plan: Plan, keys: Keys, fingerprint: str, again: bool = False) -> Shipped:
    """Evaluate the stored artifact of ``keys`` on the test images of the data with this fingerprint, once, or
    ``again``."""
    ledger = context.ledger
    artifact = ledger.artifact(keys.artifact_key or "")
    assert artifact is not None  # a confirmed trial has one
    evaluated = ledger.accuracy(artifact.artifact_key, fingerprint)
    key = key_of(artifact.artifact_key, fingerprint)

    async def make() -> tuple[ArtifactRow, StageCost]:
        job = ShipJob(
            context.workspace,
            Source(plan.backbone, plan.weights, plan.resolution, plan.window_size),
            plan.deployment.with_options(tuple(artifact.detail.get("options", {}).items())),
            artifact.sha256,
            artifact.detail.get("judged_sha256"),
            evaluated.batch if evaluated else plan.deployment.batch or 1,
            BUNDLED_IMAGES,
        )
        found, cost = await context.run(job)
        detail = asdict(found) | {"batch": job.batch}
        sha256, size = detail.pop("images_sha256"), detail.pop("images_bytes")
        return ArtifactRow(key, Stage.SHIP, sha256, size, str(context.workspace.store.root), detail), cost

    if again and (known := ledger.artifact(key)) is not None:
        ledger.drop(known)
    row = await context.single_flight.get(StageKey(Stage.SHIP, key), lambda: ledger.artifact(key), make)
    return Shipped.of(row)
