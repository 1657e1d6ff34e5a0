"""Brings the ledger's tables to this version. Optuna owns the default version table; ours has its own."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from vitsearch.errors import StudyError

VERSION_TABLE = "vitsearch_version"


def upgrade(engine: Engine) -> None:
    """Create or upgrade the tables; a database that a newer vitsearch made is refused."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        current = context.get_current_revision()
        if current == script.get_current_head():
            return
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise StudyError(
                f"the database is at ledger version {current!r}, which this vitsearch does not know: "
                "install a newer vitsearch"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
