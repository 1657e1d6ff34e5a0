"""Writing a trial when the connection is cut."""

from __future__ import annotations

import json

import pytest
from optuna.distributions import FloatDistribution, distribution_to_json
from sqlalchemy.exc import IntegrityError, OperationalError

from vitsearch.space import SearchSpace
from vitsearch.storage.ledger.trial_rows import Facts, TrialRows
from vitsearch.study.study import Study

FACTS = Facts({"ratio": (0.5, distribution_to_json(FloatDistribution(0.0, 1.0)))}, {"seen": json.dumps(1)})


@pytest.fixture
def rows(space, storage):
    study = Study.open(SearchSpace.from_json(space.to_json() | {"storage": storage}))
    yield TrialRows(study._view._backend.engine, study._view.study_id)
    study.close()


def lose_the_answer_once(engine):
    """The next commit arrives, and the connection is cut before its answer does."""
    lost = []
    commit = engine.dialect.do_commit

    def committing(connection):
        commit(connection)
        if not lost:
            lost.append(True)
            engine.dialect.do_commit = commit
            error = OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
            error.connection_invalidated = True
            raise error

    engine.dialect.do_commit = committing
    return lost


def test_what_arrived_although_its_answer_did_not_is_not_written_twice(rows):
    trial = rows.create("RUNNING", Facts())
    lost = lose_the_answer_once(rows._engine)
    rows.write(trial.trial_id, FACTS)
    assert lost
    (found,) = rows.read([trial.trial_id])
    assert (found.facts.params, found.facts.user_attrs) == (FACTS.params, FACTS.user_attrs)


def test_another_value_of_what_is_there_is_an_error(rows):
    trial = rows.create("RUNNING", FACTS)
    with pytest.raises(IntegrityError):
        rows.write(trial.trial_id, Facts(user_attrs={"seen": json.dumps(2)}))
