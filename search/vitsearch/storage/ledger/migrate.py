"""Brings the ledger's tables to this version. Optuna owns the default version table; ours has its own."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from vitsearch.errors import StudyError

VERSION_TABLE = "vitsearch_version"
ALONE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(hashtext('vitsearch'))"}
"""Begins a transaction (Python's sqlite3 begins none for CREATE TABLE) and keeps others out until it ends."""


def upgrade(engine: Engine) -> None:
    """Create or upgrade the tables; a database that a newer vitsearch made is refused. Of several that start together
    one does it, wholly or, where it is killed, not at all."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if _is_newest(connection, script):
            return
    with engine.begin() as connection:
        connection.exec_driver_sql(ALONE[engine.dialect.name])
        if not _is_newest(connection, script):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _is_newest(connection: Connection, script: ScriptDirectory) -> bool:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    current = context.get_current_revision()
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise StudyError(
            f"the database is at ledger version {current!r}, which this vitsearch does not know: "
            "install a newer vitsearch"
        )
    return current == script.get_current_head()
