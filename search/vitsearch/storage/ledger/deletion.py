"""Deletes a study from a database: its trials, its runs and what their stages have cost, in one transaction. The
results of stages stay, because other studies share them.

The rows are deleted by a few statements: what is written to the log of SQLite needs room on a disk that is full.
"""

from __future__ import annotations

from sqlalchemy import Engine, delete, select

from vitsearch.storage.ledger import tables


def delete_rows(engine: Engine, name: str) -> None:
    """Delete a study; nothing where there is none. Raises `StoreError`, and deletes nothing,
    where the database cannot be written: SQLite needs room for the rows that change until they are deleted."""
    with engine.begin() as connection:
        study_ids = select(tables.study.c.id).where(tables.study.c.name == name)
        for table in (tables.trial, tables.study_attribute):
            connection.execute(delete(table).where(table.c.study.in_(study_ids)))
        connection.execute(delete(tables.study).where(tables.study.c.name == name))
        runs = select(tables.run.c.id).where(tables.run.c.study == name)
        connection.execute(delete(tables.stage_cost).where(tables.stage_cost.c.run.in_(runs)))
        connection.execute(delete(tables.run).where(tables.run.c.study == name))
