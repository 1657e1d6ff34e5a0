"""Optuna's tables of a database: opening them, and the studies in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from vitsearch.storage.ledger import (
    Ledger,
    delete_rows,
    engine_options,
    explained_at,
    first,
    has_tables,
    names_of_studies,
    read_options,
    require_trials,
    tune,
    tune_to_read,
    wait_for,
)
from vitsearch.study.database.versions import refuse_other_versions

HEARTBEAT_S = 60
GRACE_S = 300

optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_tables(url: str) -> RDBStorage:
    """Open the tables, and make them where there are none; `StudyError` where another version made them."""

    def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
        # Parameters only: Optuna's own callback would copy the old measurements too.
        study.enqueue_trial(trial.params, user_attrs={"enqueued": f"trial {trial.number} was lost"})

    with quiet(), first(url, "alembic_version"), _explained(url):  # the last one that Optuna makes
        storage = RDBStorage(
            url,
            engine_kwargs=engine_options(url),
            skip_compatibility_check=True,  # Optuna's own message names a command of Optuna's
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=requeue,
        )
    return _ready(storage, tune)


def open_tables_to_read(url: str) -> RDBStorage:
    """Open the tables of a database that stays as it is; `StudyError` where another version made them."""
    with quiet(), _explained(url):
        storage = RDBStorage(
            url,
            engine_kwargs=read_options(url),
            skip_compatibility_check=True,
            skip_table_creation=True,
        )
    return _ready(storage, tune_to_read)


def _ready(storage: RDBStorage, tune_engine: Callable[[Any], None]) -> RDBStorage:
    """The tables, once they are seen to be those of this program."""
    with closed_on_error(storage):
        tune_engine(storage.engine)
        require_trials(storage.engine)
        refuse_other_versions(storage)
        wait_for(storage.engine)
    return storage


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Optuna reads its tables before an engine of its own explains errors."""
    with explained_at(url):
        try:
            yield
        except optuna.exceptions.StorageInternalError as error:
            raise (error.__cause__ or error) from None


@contextmanager
def closed_on_error(storage: RDBStorage) -> Iterator[None]:
    """Close the database connections where the block fails."""
    try:
        yield
    except BaseException:
        close_tables(storage)
        raise


def close_tables(storage: RDBStorage) -> None:
    """Close the database connections."""
    storage.remove_session()
    storage.engine.dispose()


def names_in(storage: RDBStorage) -> list[str]:
    """The studies of open tables. Optuna would read all of their trials, or all of their attributes."""
    return names_of_studies(storage.engine)


def holds_studies(url: str) -> bool:
    """Whether a database has Optuna's tables, which are not made here. `alembic_version` is a name
    that others use."""
    return has_tables(url, "studies", "trials", "version_info")


def make_tables(url: str) -> None:
    """Make the tables of studies in a database that has none."""
    with _opened(url):
        pass


def study_names(url: str) -> list[str]:
    """The studies of a database, which stays as it is."""
    if not holds_studies(url):
        return []
    storage = open_tables_to_read(url)
    try:
        return names_in(storage)
    finally:
        close_tables(storage)


def delete_study(url: str, name: str) -> None:
    """Delete the trials and the runs of a study in one transaction. The results of its stages stay in the database."""
    with closing(Ledger.open(url)), _opened(url) as storage:
        delete_rows(storage.engine, name)


@contextmanager
def _opened(url: str) -> Iterator[RDBStorage]:
    storage = open_tables(url)
    try:
        yield storage
    finally:
        close_tables(storage)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's warnings that heartbeats are experimental and meant for `Study.optimize`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
        # A waiting trial may ask for a number that the file no longer has: it becomes the nearest one.
        warnings.filterwarnings("ignore", message="Fixed parameter .* is out of range")
        yield
