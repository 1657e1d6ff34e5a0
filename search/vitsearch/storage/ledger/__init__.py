"""The ledger: every finished stage, in the study's database, found again by its key.

Only this package imports SQLAlchemy. Values that come out are frozen; a row that exists is never
overwritten, so a stage that ran twice (a lost claim) keeps its first result. A row whose file is gone is dropped
before its stage runs again.
"""

from vitsearch.storage.ledger.columns import require_trials
from vitsearch.storage.ledger.deletion import delete_rows
from vitsearch.storage.ledger.engine import (
    connect_to_read,
    database_files,
    engine_options,
    explained_at,
    files_folder,
    first,
    has_tables,
    read_options,
    sqlite_file,
    tune,
    tune_to_read,
)
from vitsearch.storage.ledger.inventory import LiveRun, StudySummary, summaries
from vitsearch.storage.ledger.ledger import Ledger
from vitsearch.storage.ledger.migrate import Schema, SchemaOfResults, Versions, version_of_trials
from vitsearch.storage.ledger.outage import wait_for
from vitsearch.storage.ledger.probing import try_database
from vitsearch.storage.ledger.provenance import StageResult
from vitsearch.storage.ledger.read_only import is_there
from vitsearch.storage.ledger.restore import Destination
from vitsearch.storage.ledger.rows import (
    AccuracyRow,
    ArtifactRow,
    BlockStructureRow,
    Claim,
    MeasurementRow,
    ReferenceKey,
    Row,
    TrainingRow,
)
from vitsearch.storage.ledger.snapshot import ResultRows, StudyRows, snapshot
from vitsearch.storage.ledger.trial_rows import names_of_studies

__all__ = [
    "AccuracyRow",
    "ArtifactRow",
    "BlockStructureRow",
    "Claim",
    "Destination",
    "Ledger",
    "LiveRun",
    "MeasurementRow",
    "ReferenceKey",
    "ResultRows",
    "Row",
    "Schema",
    "SchemaOfResults",
    "StageResult",
    "StudyRows",
    "StudySummary",
    "TrainingRow",
    "Versions",
    "connect_to_read",
    "database_files",
    "delete_rows",
    "engine_options",
    "explained_at",
    "files_folder",
    "first",
    "has_tables",
    "is_there",
    "names_of_studies",
    "read_options",
    "require_trials",
    "snapshot",
    "sqlite_file",
    "summaries",
    "try_database",
    "tune",
    "tune_to_read",
    "version_of_trials",
    "wait_for",
]
