"""The progress of a study: outcomes, the leaderboard of unpruned models, cost so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from vitsearch.core.figures import Metrics, PrintedMetrics
from vitsearch.core.metrics import Direction
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record, trainings
from vitsearch.devices.availability import still_waiting
from vitsearch.space.changes import SpaceChange
from vitsearch.storage.ledger import Ledger, LiveRun
from vitsearch.study.accounting import account
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.devices import shown_target
from vitsearch.study.front import Front, OwnTimes, read_front, warnings_of
from vitsearch.study.printed.models import PlanJson
from vitsearch.study.study import Study


@dataclass(frozen=True)
class DiskUse:
    """Bytes by what they are for."""

    database_bytes: int | None
    """Of the .db file with its log; null on a server."""
    files_bytes: int | None
    """Of the files in the store; null on a server."""
    files_place: str | None
    """Where the store is; null where the database names no valid place."""
    images_bytes: int
    """Of decoded images."""
    agent_bytes: int
    """Of the local agent: its queue and, during a run, copies of the models that it measures."""
    other_bytes: int
    """Logs, and models that are deleted after their measurement."""
    shared_with: tuple[str, ...]
    """The other studies of the database, which share it, its files and its images."""
    is_complete: bool
    """False where counting took over a second: it is at least this much."""


@dataclass(frozen=True)
class PrintedLiveRun:
    """A run that goes on."""

    user: str
    """Who started the run."""
    host: str
    """The machine of the run."""
    pid: int
    """Its process there."""
    purpose: Literal["search", "afterwards"]
    """A search, or work with its models such as ship."""
    since: str
    """When it began (ISO 8601)."""
    doing: Mapping[str, str]
    """Stage that takes long -> how far it is."""
    waits: str | None
    """What it waits for."""

    @classmethod
    def of(cls, run: LiveRun) -> PrintedLiveRun:
        driver, since = run.driver, datetime.fromtimestamp(run.started_at, UTC).isoformat(timespec="seconds")
        purpose: Literal["search", "afterwards"] = "search" if run.purpose == "search" else "afterwards"
        return cls(driver.user, driver.host, driver.pid, purpose, since, run.now.doing, run.now.waits)


@dataclass(frozen=True)
class LeaderboardRow(PrintedMetrics):
    """An unpruned model."""

    plan: PlanJson
    """The unpruned model."""
    shares: Mapping[str, float]
    """Share of its MACs by precision."""
    warnings: tuple[str, ...]
    """What is known against its precision or combination."""

    @property
    def model(self) -> Plan:
        return Plan.from_json(self.plan)

    @property
    def metrics(self) -> Metrics:
        return Metrics.of(self.values, self.intervals, self.reasons, self.notes)


@dataclass(frozen=True)
class Status:
    """The state of a study."""

    study: str
    """Name of the study."""
    emulated: bool
    """Whether its times are those of an emulated device."""
    devices: tuple[str, ...]
    """Its devices, each with its host, such as local@HOST."""
    trained: int
    """Trainings so far."""
    wanted: int | None
    """Trainings in all; null where the time is limited."""
    open: int
    """Trials in progress."""
    runs: tuple[PrintedLiveRun, ...]
    """Runs that are under way, here and on other machines."""
    search_end: str | None
    """Why the last run that searched asked for nothing more; null where none has come so far."""
    space_changes: tuple[SpaceChange, ...]
    """Edits of the space file, oldest first."""
    waits: str | None
    """What a run waits for."""
    outcomes: Mapping[str, int]
    """Outcome -> trials."""
    failures: Mapping[int, str]
    """Trial -> its plan, and the reason."""
    objectives: Mapping[str, Direction]
    """Metric -> direction."""
    data: Mapping[str, Any] | None
    """Identity of the data."""
    reference_point: Mapping[str, float] | None
    """Of the hypervolume."""
    leaderboard: tuple[LeaderboardRow, ...]
    """Unpruned models."""
    quality_warnings: tuple[str, ...]
    """What accuracy is without labels; classes that the baseline or the front misses, in words."""
    cpu_seconds: Mapping[str, float]
    """Stage -> CPU-seconds."""
    busy_share: float | None
    """Share of the cores' time that stages used."""
    trainer_seconds: float
    """Wall time of stages on trainers."""
    device_seconds: float
    """Wall time of stages on devices."""
    reused_seconds: float
    """Wall time of stages whose results were there already."""
    wall_seconds: float
    """Time of all runs."""
    eta: float | None
    """Share of wall_seconds that a perfect schedule would have needed."""
    disk: DiskUse | None
    """What the study takes on this machine; null where that was not counted."""


def status(study: Study, ledger: Ledger, front: Front | None = None, disk: DiskUse | None = None) -> Status:
    """The state of a study; `front` is its front, where that was read already, `disk` what it takes on disk, where
    that was counted."""
    records, spent, accounted = study.records(), ledger.costs.spent(study.name), account(study, ledger)
    space, attributes = study.space(), study.attributes
    return Status(
        study=study.name,
        emulated=study.is_emulated,
        devices=tuple(shown_target(name, study.devices) for name in space.device_names),
        trained=len(trainings(records)),
        wanted=space.search.wanted,
        open=study.unfinished(),
        runs=tuple(map(PrintedLiveRun.of, ledger.inventory.live_runs(study.name))),
        search_end=attributes.get("search_end"),
        space_changes=tuple(map(SpaceChange.from_json, attributes.get("space_changes", []))),
        waits=still_waiting(attributes.get("waits")),
        outcomes=Counter(record.shown_outcome for record in records.values()),
        failures=_failures(records),
        objectives=space.objectives,
        data=attributes.get("data"),
        reference_point=attributes.get("reference_point"),
        leaderboard=tuple(_leaderboard(study, ledger)),
        quality_warnings=tuple((front or read_front(study, ledger)).quality_warnings()),
        cpu_seconds=spent.cpu_seconds,
        busy_share=spent.busy_share,
        trainer_seconds=accounted.together.trainer,
        device_seconds=accounted.together.device,
        reused_seconds=accounted.together.reused,
        wall_seconds=accounted.wall_seconds,
        eta=accounted.eta,
        disk=disk,
    )


def _failures(records: Mapping[int, Record]) -> dict[int, str]:
    failed = {number: record for number, record in records.items() if record.outcome == "failed"}
    return {number: f"{plan_text(record.plan)}: {record.reason}" for number, record in failed.items()}


def _leaderboard(study: Study, ledger: Ledger) -> Iterator[LeaderboardRow]:
    """The unpruned models with what is known of them now: those that are trials may have been measured again."""
    records = {record.plan: record for record in study.records().values() if record.is_confirmed}
    current = CurrentFigures(ledger, study.fleets)
    times = OwnTimes.of(study, ledger)
    for row in study.attributes.get("leaderboard", []):
        plan, metrics = Plan.from_json(row["plan"]), Metrics.from_json(row)
        if plan in records:
            metrics |= current.now(records[plan])[0]
        said = warnings_of(plan, row["shares"], tuple(times.time_ratios(plan, metrics)))
        yield LeaderboardRow(**vars(metrics.printed()), plan=row["plan"], shares=row["shares"], warnings=said)
