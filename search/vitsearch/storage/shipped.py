"""What shipping a model has added to the ledger: its accuracy on the test images, and the images of its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1


@dataclass(frozen=True)
class Shipped:
    """``correct`` of ``n`` images of ``split`` (``test``; ``validation`` for data without test images) with the digest
    ``sha256`` are classified correctly, by class ``class_correct`` of ``class_images``. ``images_sha256`` is the file
    of the images in the bundle, with their ``labels`` and the classes ``predicted`` for them."""

    split: str
    sha256: str
    n: int
    correct: int
    class_images: tuple[int, ...]
    class_correct: tuple[int, ...]
    images_sha256: str
    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    licences: dict[str, str | None]
    batch: int

    @classmethod
    def of(cls, row: ArtifactRow) -> Shipped:
        detail: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.detail.items()
        }
        return cls(**detail, images_sha256=row.sha256)


def key_of(artifact_key: str, fingerprint: str) -> str:
    """The ledger's key for an artifact on the test images of the data with this fingerprint."""
    return digest({"schema": SCHEMA, "stage": Stage.SHIP, "artifact": artifact_key, "data": fingerprint})


def find(ledger: Ledger, artifact_key: str, fingerprint: str) -> Shipped | None:
    """None for an artifact that was never shipped."""
    row = ledger.artifact(key_of(artifact_key, fingerprint))
    return None if row is None else Shipped.of(row)
