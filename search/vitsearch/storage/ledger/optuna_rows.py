"""The one change that is made to Optuna's own rows: the list of a categorical parameter has grown.

Optuna stores the index of the choice and, with every trial, the whole list; it refuses a trial whose
list differs. Words are only ever added at the end, so old indices keep their meaning and the stored
lists can be replaced by the longer one.
"""

from __future__ import annotations

from sqlalchemy import Engine, text

_REPLACE = text(
    """
    UPDATE trial_params SET distribution_json = :new
    WHERE param_name = :parameter AND distribution_json = :old AND trial_id IN (
        SELECT trials.trial_id FROM trials JOIN studies ON studies.study_id = trials.study_id
        WHERE studies.study_name = :study)
    """
)


def replace_distribution(engine: Engine, study: str, parameter: str, old: str, new: str) -> None:
    with engine.begin() as connection:
        connection.execute(_REPLACE, {"study": study, "parameter": parameter, "old": old, "new": new})
