"""What the commands print with `--json` that no other part of the program has as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema

StatusJson = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {"type": "object", "required": ["name", "url", "runtimes", "conditions", "queue", "device_id", "kind"]}
    ),
]
DescriptionJson = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "required": ["sources", "device"]})]
PeaksJson = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "required": ["name", "gemm", "copy_gb_per_s"]})]
"""What an agent reports, in the form of its wire."""


@dataclass(frozen=True)
class PrintedRun:
    """A run that has ended."""

    study: str
    """Name of the study."""
    reason: str
    """Why the run has ended."""
    complete: bool
    """Whether the search is complete."""


@dataclass(frozen=True)
class PrintedCheckOfBundle:
    """A check of a bundle."""

    name: str
    """What was checked."""
    outcome: Literal["passed", "failed", "not judged"]
    """What came of it."""
    message: str
    """What was found, and what was shipped."""


@dataclass(frozen=True)
class PrintedRestriction:
    """Something that a model is kept from."""

    name: str
    """One of user, files, network and processes."""
    holds: bool
    """Whether the model was kept from it."""
    detail: str
    """By what, or why not."""


@dataclass(frozen=True)
class PrintedVerification:
    """A bundle that was verified. The agent's code prints it, which has no pydantic."""

    bundle: str
    """Name of the bundle."""
    passed: bool
    """Whether no check failed, and more than checksums was judged."""
    verdict: Literal["passed", "failed", "only checksums judged"]
    """What came of all checks."""
    checks: tuple[PrintedCheckOfBundle, ...]
    """Check by check."""
    restrictions: tuple[PrintedRestriction, ...]
    """What the model was kept from while it ran; empty where it did not run."""


@dataclass(frozen=True)
class PrintedDeletion:
    """A study that was deleted."""

    deleted: str
    """Name of the study."""
    freed_bytes: int
    """On disk."""
    others: tuple[str, ...]
    """Studies that stay in its database, with all results."""


@dataclass(frozen=True)
class PrintedCleaning:
    """Files that no result names."""

    files: int
    """Number of files."""
    bytes: int
    """On disk."""
    dry_run: bool
    """Whether they were only counted."""


@dataclass(frozen=True)
class PrintedConverter:
    """A converter that was installed."""

    installed: str
    """Its name."""


@dataclass(frozen=True)
class PrintedRemoval:
    """A device that was removed."""

    removed: str
    """Its name."""


@dataclass(frozen=True)
class PrintedDevice:
    """A known device."""

    name: str
    """Name of the device."""
    url: str
    """Address."""
    reachable: bool
    """Whether it answers."""
    reason: str | None = None
    """Why it does not."""
    kind: str | None = None
    """Physical or emulated; this and what follows is null where it does not answer."""
    board: str | None = None
    """What it is."""
    queued: int | None = None
    """Jobs that wait."""
    running: int | None = None
    """Jobs that run."""
    quarantined: str | None = None
    """Why it is in quarantine; null where it is not."""


@dataclass(frozen=True)
class PrintedAcceptance:
    """A device that is the same as before."""

    study: str
    """Name of the study."""
    name: str
    """Of the device."""
    before: str | None
    """What measured before, in words; null where the study knew the device already."""
    now: str
    """What answers now, in words."""


@dataclass(frozen=True)
class PrintedJob:
    """A job of a device."""

    id: str
    """Of the job."""
    kind: str
    """What it was to do."""
    state: str
    """Its state now."""
    study: str
    """Of its owner."""
    trial: int | None
    """Of its owner."""
    attempts: int
    """How often it was started."""
    error: Mapping[str, Any] | None
    """Its failure."""
