"""Which store has the files of a database. The database itself says it, so every machine that opens it finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitsearch.errors import StudyError
from vitsearch.storage.addresses import files_address, files_problem
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.remote_files import RemoteStore

VARIABLE = "VITSEARCH_FILES"
"""Where the files of a new database go, unless its space file says it."""


def store_of(ledger: Ledger) -> Store:
    """The store of a database: the place that it names, else the folder beside it."""
    place = ledger.inventory.files_place()
    return _store(ledger, place.address if place else "")


def adopt_store(ledger: Ledger, asked: str | None, environ: Mapping[str, str]) -> Store:
    """The store of a database that is about to be filled. A new database remembers the place that is ``asked``, else
    that of :data:`VARIABLE`, else the folder beside it.

    Raises :class:`StudyError` where it has its files elsewhere, and :class:`~vitsearch.errors.StoreError` where they
    cannot be written.
    """
    wanted = asked or environ.get(VARIABLE, "")
    if wanted and (problem := files_problem(wanted)):
        raise StudyError(f"{VARIABLE}: {problem}" if not asked else problem)
    place = ledger.inventory.files_place()
    if place is None:
        address = files_address(wanted) if wanted else ""
        if address:
            _store(ledger, address).prepare()  # a place that cannot be written is not remembered
        place = ledger.inventory.adopt_files_place(address)
    store = _store(ledger, place.address)
    if asked and files_address(asked) != store.address:
        raise StudyError(
            f"the files of {ledger.shown} are in {store.address}, not in {files_address(asked)}: leave 'files' out, or "
            f"copy its studies into another database: vitsearch db copy {ledger.shown} OTHER --files {asked}"
        )
    if place.address:
        store.register(place.database, ledger.shown)
    return store


def other_users(ledger: Ledger) -> list[str]:
    """The other databases that have files in the store of this one."""
    place = ledger.inventory.files_place()
    own = place.database if place else None
    return sorted(about for database, about in store_of(ledger).users().items() if database != own)


def _store(ledger: Ledger, address: str) -> Store:
    if not address:
        return FileStore(ledger.files / "artifacts")
    return RemoteStore(address) if "://" in address else FileStore(Path(address))
