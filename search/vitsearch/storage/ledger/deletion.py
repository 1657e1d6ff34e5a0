"""Deletes a study from a database: its trials, its runs and what their stages have cost, in one transaction. The
results of stages stay, because other studies share them.

The rows are deleted by a few statements. Optuna reads each of them first, and what it writes to the log of SQLite
would need more room on a disk that is full.
"""

from __future__ import annotations

from sqlalchemy import Engine, delete, select

from vitsearch.storage.ledger import optuna_tables as optuna
from vitsearch.storage.ledger import tables


def delete_rows(engine: Engine, name: str) -> None:
    """Delete a study; nothing where there is none. Raises `StoreError`, and deletes nothing,
    where the database cannot be written: SQLite needs room for the rows that change until they are deleted."""
    with engine.begin() as connection:
        found = connection.execute(select(optuna.studies.c.study_id).where(optuna.studies.c.study_name == name))
        for study_id in found.scalars().all():
            of_study = select(optuna.trials.c.trial_id).where(optuna.trials.c.study_id == study_id)
            for table in (*optuna.OF_TRIALS, optuna.heartbeats):
                connection.execute(delete(table).where(table.c.trial_id.in_(of_study)))
            for table in (optuna.trials, *optuna.OF_STUDY, optuna.studies):
                connection.execute(delete(table).where(table.c.study_id == study_id))
        runs = select(tables.run.c.id).where(tables.run.c.study == name)
        connection.execute(delete(tables.stage_cost).where(tables.stage_cost.c.run.in_(runs)))
        connection.execute(delete(tables.run).where(tables.run.c.study == name))
