"""Whether a run could use a database, which stays as it is: one that is not there is not made."""

from __future__ import annotations

import os

from sqlalchemy import Engine, NullPool, inspect, text

from vitsearch.errors import StoreError
from vitsearch.storage.files import nearest_folder
from vitsearch.storage.ledger.engine import explained, make_engine, shown, sqlite_file, tune_to_read
from vitsearch.storage.ledger.read_only import is_there
from vitsearch.storage.ledger.schema import refuse_other_version
from vitsearch.storage.ledger.tables import version


def try_database(url: str) -> bool:
    """Whether a database that a run could open and fill has results already.

    Raises `StoreError` or `StudyError` where a run could not.
    """
    file = sqlite_file(url)
    if file is not None:
        place = file if is_there(file) else nearest_folder(file.parent)
        for path in dict.fromkeys((place, place.parent if place == file else place)):
            if not os.access(path, os.W_OK):
                raise StoreError(f"storage {url} cannot be written: no permission to write {path}")
        if place != file and not place.is_dir():
            raise StoreError(f"storage {url} cannot be written: {place} is not a folder")
        if place != file or not file.stat().st_size:
            return False
    engine = make_engine(url, to_read=True, poolclass=NullPool)
    tune_to_read(engine)
    with explained(engine):
        has_tables = refuse_other_version(engine) is not None
        if file is None:
            _require_grants(engine)
        return has_tables


def _require_grants(engine: Engine) -> None:
    """A server lets people in who may not write."""
    if engine.dialect.name != "postgresql":
        return
    with engine.connect() as connection:
        if inspect(connection).has_table(version.name):
            question, lacking = f"SELECT has_table_privilege('{version.name}', 'INSERT')", "write into its tables"
        else:
            question = "SELECT has_schema_privilege(current_schema(), 'CREATE')"
            lacking = "make tables there"
        user = connection.execute(text("SELECT current_user")).scalar()
        if not connection.execute(text(question)).scalar():
            raise StoreError(f"storage {shown(engine)} cannot be written: user {user!r} may not {lacking}")
