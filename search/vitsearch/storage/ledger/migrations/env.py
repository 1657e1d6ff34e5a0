"""Alembic's entry: runs on the connection that `vitsearch.storage.ledger.migrate` opened."""

from alembic import context

from vitsearch.storage.ledger.migrate import VERSION_TABLE
from vitsearch.storage.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
