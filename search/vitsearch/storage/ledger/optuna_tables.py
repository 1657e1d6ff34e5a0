"""Optuna's own tables, as Optuna 5 makes them. A test compares them with Optuna's models.

studies > directions, user and system attributes
        > trials > params, values, intermediate values, user and system attributes, heartbeats
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, Enum, Float, Integer, MetaData, String, Table, Text

metadata = MetaData()

_DIRECTIONS = Enum("NOT_SET", "MINIMIZE", "MAXIMIZE", name="studydirection")
_STATES = Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")
_KINDS = Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")
_INTERMEDIATE_KINDS = Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype")


def _table(name: str, numbered_by: str, **columns: Any) -> Table:
    """A table whose rows are numbered by `numbered_by`."""
    numbered = Column(numbered_by, Integer, primary_key=True)
    return Table(name, metadata, numbered, *(Column(column, kind) for column, kind in columns.items()))


def _attributes(name: str, owner: str) -> Table:
    return _table(f"{name}s", f"{name}_id", **{owner: Integer, "key": String, "value_json": Text})


studies = _table("studies", "study_id", study_name=String)
directions = _table(
    "study_directions", "study_direction_id", direction=_DIRECTIONS, study_id=Integer, objective=Integer
)
study_user_attributes = _attributes("study_user_attribute", "study_id")
study_system_attributes = _attributes("study_system_attribute", "study_id")
trials = _table(
    "trials",
    "trial_id",
    number=Integer,
    study_id=Integer,
    state=_STATES,
    datetime_start=DateTime,
    datetime_complete=DateTime,
)
params = _table(
    "trial_params", "param_id", trial_id=Integer, param_name=String, param_value=Float(53), distribution_json=Text
)
values = _table(
    "trial_values", "trial_value_id", trial_id=Integer, objective=Integer, value=Float(53), value_type=_KINDS
)
intermediate_values = _table(
    "trial_intermediate_values",
    "trial_intermediate_value_id",
    trial_id=Integer,
    step=Integer,
    intermediate_value=Float(53),
    intermediate_value_type=_INTERMEDIATE_KINDS,
)
user_attributes = _attributes("trial_user_attribute", "trial_id")
system_attributes = _attributes("trial_system_attribute", "trial_id")
heartbeats = _table("trial_heartbeats", "trial_heartbeat_id", trial_id=Integer, heartbeat=DateTime)

OF_STUDY = (directions, study_user_attributes, study_system_attributes)
OF_TRIALS = (params, values, intermediate_values, user_attributes, system_attributes)
"""What belongs to a study and to its trials, without heartbeats: those are of drivers that run."""
