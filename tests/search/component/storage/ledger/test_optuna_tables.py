"""Our description of Optuna's tables is that of the Optuna that is installed."""

from __future__ import annotations

from optuna.storages._rdb.models import BaseModel
from sqlalchemy import Enum

from vitsearch.storage.ledger import optuna_tables


def described(table):
    """The columns of a table: what they are called and hold."""
    return {
        column.name: (column.type.enums if isinstance(column.type, Enum) else column.type.python_type)
        for column in table.columns
    }


def test_every_table_of_optuna_has_the_columns_that_it_had():
    theirs = {name: described(table) for name, table in BaseModel.metadata.tables.items() if name != "version_info"}
    ours = {name: described(table) for name, table in optuna_tables.metadata.tables.items()}
    assert ours == theirs


def test_a_copy_leaves_out_heartbeats_and_nothing_else():
    copied = {*optuna_tables.OF_STUDY, *optuna_tables.OF_TRIALS, optuna_tables.studies, optuna_tables.trials}
    assert set(optuna_tables.metadata.tables.values()) - copied == {optuna_tables.heartbeats}
