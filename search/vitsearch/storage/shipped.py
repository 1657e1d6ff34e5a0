"""What shipping a model has added to the ledger."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Shipped
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 3
_METRICS = ("figures", "on_images")


def key_of(artifact_key: str, fingerprint: str) -> str:
    """The ledger's key for an artifact on the test images of the data with this fingerprint."""
    return digest({"schema": SCHEMA, "stage": Stage.SHIP, "artifact": artifact_key, "data": fingerprint})


def to_row(shipped: Shipped, key: str, folder: str) -> ArtifactRow:
    """The file of a row is that of the images, its `detail` names the others; `folder` is their store."""
    detail = {field.name: getattr(shipped, field.name) for field in fields(shipped)}
    detail |= {name: getattr(shipped, name).to_json() for name in _METRICS}
    sha256, size = detail.pop("images_sha256"), detail.pop("images_bytes")
    return ArtifactRow(key, Stage.SHIP, sha256, size, folder, detail)


def of_row(row: ArtifactRow) -> Shipped:
    detail: dict[str, Any] = dict(row.detail)
    detail["labels"] = None if detail["labels"] is None else tuple(detail["labels"])
    detail |= {name: Metrics.from_json(detail[name]) for name in _METRICS}
    return Shipped(**detail, images_sha256=row.sha256, images_bytes=row.size_bytes)


def find(ledger: Ledger, artifact_key: str, fingerprint: str) -> Shipped | None:
    """None for an artifact that was never shipped."""
    row = ledger.artifact(key_of(artifact_key, fingerprint))
    return None if row is None else of_row(row)
