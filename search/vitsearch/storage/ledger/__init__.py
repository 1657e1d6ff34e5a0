"""The database: studies with their trials, and the ledger of every finished stage, found again by its key.

Only this package imports SQLAlchemy. Values that come out are frozen; a row that exists is never
overwritten, so a stage that ran twice (a lost claim) keeps its first result. A row whose file is gone is dropped
before its stage runs again.
"""

from sqlalchemy import Engine

from vitsearch.storage.ledger.columns import require_trials
from vitsearch.storage.ledger.deletion import delete_rows
from vitsearch.storage.ledger.engine import (
    connect,
    connect_to_read,
    database_files,
    engine_options,
    explained,
    files_folder,
    has_tables,
    read_options,
    shown,
    sqlite_file,
    tune,
    tune_to_read,
)
from vitsearch.storage.ledger.inventory import LiveRun, StudySummary, summaries
from vitsearch.storage.ledger.ledger import Ledger
from vitsearch.storage.ledger.outage import wait_for
from vitsearch.storage.ledger.probing import try_database
from vitsearch.storage.ledger.provenance import StageResult
from vitsearch.storage.ledger.read_only import is_there
from vitsearch.storage.ledger.restore import Destination
from vitsearch.storage.ledger.rows import (
    ArtifactRow,
    BlockStructureRow,
    Claim,
    EvaluationRow,
    MeasurementRow,
    ReferenceKey,
    Row,
    RunState,
    StoredTimes,
    TrainingRow,
)
from vitsearch.storage.ledger.schema import VERSION, make_tables, open_database, open_database_to_read
from vitsearch.storage.ledger.snapshot import ResultRows, StudyRows, snapshot
from vitsearch.storage.ledger.trial_rows import StudyRow, StudyTable, TrialRow, TrialRows
from vitsearch.storage.ledger.verification import Damage, damage_of

__all__ = [
    "VERSION",
    "EvaluationRow",
    "ArtifactRow",
    "BlockStructureRow",
    "Claim",
    "Damage",
    "Destination",
    "Engine",
    "Ledger",
    "LiveRun",
    "MeasurementRow",
    "ReferenceKey",
    "ResultRows",
    "Row",
    "RunState",
    "StageResult",
    "StoredTimes",
    "StudyRow",
    "StudyRows",
    "StudySummary",
    "StudyTable",
    "TrainingRow",
    "TrialRow",
    "TrialRows",
    "connect",
    "connect_to_read",
    "damage_of",
    "database_files",
    "delete_rows",
    "engine_options",
    "explained",
    "files_folder",
    "has_tables",
    "is_there",
    "make_tables",
    "open_database",
    "open_database_to_read",
    "read_options",
    "require_trials",
    "shown",
    "snapshot",
    "sqlite_file",
    "summaries",
    "try_database",
    "tune",
    "tune_to_read",
    "wait_for",
]
