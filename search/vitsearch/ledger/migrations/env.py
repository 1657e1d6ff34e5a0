"""Alembic's entry: runs on the connection that ``vitsearch.ledger.migrate`` opened."""

from alembic import context

from vitsearch.ledger.migrate import VERSION_TABLE
from vitsearch.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
