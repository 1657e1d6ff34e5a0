"""Which store has the files of a database. The database itself says it, so every machine that opens it finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitsearch.errors import StudyError
from vitsearch.storage.addresses import files_address, files_problem
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.notes import NOTE
from vitsearch.storage.remote_files import RemoteStore

VARIABLE = "VITSEARCH_FILES"
"""Where the files of a new database go, unless its space file says it."""


def store_of(ledger: Ledger) -> Store:
    """The store of a database, to read: the place that it names, else the folder beside it. Raises
    :class:`StudyError` where it names what is no place for files."""
    place = ledger.inventory.files_place()
    return _store(ledger, place.address if place else "")


def writable_store(ledger: Ledger) -> Store:
    """The store of a database that has one. Raises :class:`StudyError` where that place is not ours, and
    :class:`~vitsearch.errors.StoreError` where it cannot be written."""
    store = store_of(ledger)
    _make_ours(store, ledger)
    return store


def adopt_store(ledger: Ledger, asked: str | None, environ: Mapping[str, str]) -> Store:
    """The store of a database that is about to be filled. A new database remembers the place that is ``asked``, else
    that of :data:`VARIABLE`, else the folder beside it.

    Raises :class:`StudyError` where it has its files elsewhere, and :class:`~vitsearch.errors.StoreError` where they
    cannot be written.
    """
    wanted = asked or environ.get(VARIABLE, "")
    if wanted and (problem := files_problem(wanted)):
        raise StudyError(f"{VARIABLE}: {problem}" if not asked else problem)
    address = files_address(wanted) if wanted else ""
    place = ledger.inventory.files_place()
    if place is None:
        store = _store(ledger, address)
        if address:
            _refuse_look_alikes(store)
            store.prepare()  # a place that cannot be written is not remembered
        else:
            _make_ours(store, ledger)
        place = ledger.inventory.adopt_files_place(address)
    store = _store(ledger, place.address)
    if asked and address != store.address:
        raise StudyError(
            f"the files of {ledger.shown} are in {store.address}, not in {address}: leave 'files' out, or "
            f"copy its studies into another database: vitsearch db copy {ledger.shown} OTHER --files {asked}"
        )
    if address == store.address:
        store.prepare()
    else:
        _make_ours(store, ledger)
    if place.address:
        store.register(place.database, ledger.shown)
    return store


def _make_ours(store: Store, ledger: Ledger) -> None:
    """Use a place that the database alone names, and no person, only where it is ours or nothing is there."""
    if store.is_ours():
        return
    if not store.is_empty() or (isinstance(store, FileStore) and store.root.is_symlink()):
        raise StudyError(
            f"the files of {ledger.shown} are in {store.address}, which is not empty and has no note of vitsearch "
            f"({NOTE}): was the folder replaced, or is it another's? To use it all the same, write its path as 'files' "
            "into the space file"
        )
    store.prepare()


def _refuse_look_alikes(store: Store) -> None:
    """Refuse a new place where another program names its files as we do: they could not be told apart."""
    if not store.is_ours() and (files := store.unnamed([])):
        raise StudyError(
            f"{store.address} has files that are named like ours, such as {files[0].place}, and no note of vitsearch "
            f"({NOTE}): another program may keep them there; name another place"
        )


def other_users(ledger: Ledger) -> list[str]:
    """The other databases that have files in the store of this one."""
    place = ledger.inventory.files_place()
    own = place.database if place else None
    return sorted(about for database, about in store_of(ledger).users().items() if database != own)


def _store(ledger: Ledger, address: str) -> Store:
    if not address:
        return FileStore(ledger.files / "artifacts")
    if problem := files_problem(address):
        raise StudyError(f"{ledger.shown}: {problem}")
    return RemoteStore(address) if "://" in address else FileStore(Path(address))
