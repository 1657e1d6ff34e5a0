"""Which store has the files of a database. The database itself says it, so every machine that opens it finds them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from vitsearch.errors import StudyError
from vitsearch.storage.addresses import files_address, files_problem, masked
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import Ledger, files_folder, try_database
from vitsearch.storage.ownership_notes import NOTE
from vitsearch.storage.remote_files import RemoteStore

VARIABLE = "VITSEARCH_FILES"
"""Where the files of a new database go, unless its space file says it."""


def store_of(ledger: Ledger) -> Store:
    """The store of a database, to read: the place that it names, else the folder beside it. Raises
    `StudyError` where it names what is no place for files."""
    place = ledger.inventory.files_place()
    return _store(ledger, place.address if place else "")


def writable_store(ledger: Ledger) -> Store:
    """The store of a database that has one. Raises `StudyError` where that place is not ours, and
    `StoreError` where it cannot be written."""
    store = store_of(ledger)
    _make_ours(store, ledger)
    return store


def adopt_store(ledger: Ledger, requested: str | None, environ: Mapping[str, str]) -> Store:
    """The store of a database that is about to be filled. A new database remembers the place that is `asked`, else
    that of `VARIABLE`, else the folder beside it.

    Raises `StudyError` where it has its files elsewhere, and `StoreError` where they
    cannot be written.
    """
    address = _wanted(requested, environ)
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
    if requested:
        _refuse_elsewhere(ledger.shown, store, requested)
    if address == store.address:
        store.prepare()
    else:
        _make_ours(store, ledger)
    if place.address:
        store.register(place.database, ledger.shown)
    return store


def planned_address(url: str, requested: str | None, environ: Mapping[str, str]) -> str:
    """Where the files of a new database at `url` would go; one that has files may name another place."""
    return _wanted(requested, environ) or str(files_folder(url).resolve() / "artifacts")


def try_store(url: str, environ: Mapping[str, str]) -> Store:
    """The store that `adopt_store` would give for a database whose space file names no place, after one small
    file was written there and deleted. Nothing is remembered, and the place becomes nobody's.

    Raises `StudyError` and `StoreError` as `adopt_store` does.
    """
    address, existing = _wanted(None, environ), _known_store(url)
    store = existing or store_at(planned_address(url, None, environ))
    store.try_out()
    if address != store.address:
        _refuse_another_s(store, masked(url))
    elif existing is None:
        _refuse_look_alikes(store)
    return store


def refuse_other_place(url: str, requested: str) -> None:
    """Raise `StudyError` where a database has its files elsewhere than a space file says."""
    if (store := _known_store(url)) is not None:
        _refuse_elsewhere(masked(url), store, requested)


def _known_store(url: str) -> Store | None:
    """The place that a database names already."""
    if not try_database(url):
        return None
    with closing(Ledger.to_read(url)) as ledger:
        place = ledger.inventory.files_place()
        return None if place is None else _store(ledger, place.address)


def _wanted(requested: str | None, environ: Mapping[str, str]) -> str:
    """The address that a space file asks for, else that of `VARIABLE`; empty where neither does."""
    wanted = requested or environ.get(VARIABLE, "")
    if wanted and (problem := files_problem(wanted)):
        raise StudyError(f"{VARIABLE}: {problem}" if not requested else problem)
    return files_address(wanted) if wanted else ""


def _refuse_elsewhere(database: str, store: Store, requested: str) -> None:
    if (address := files_address(requested)) != store.address:
        raise StudyError(
            f"the files of {database} are in {store.address}, not in {address}: leave 'files' out, or "
            f"copy its studies into another database: vitsearch db copy {database} OTHER --files {requested}"
        )


def _make_ours(store: Store, ledger: Ledger) -> None:
    """Use a place that the database alone names, and no person, only where it is ours or nothing is there."""
    if not store.is_ours():
        _refuse_another_s(store, ledger.shown)
        store.prepare()


def _refuse_another_s(store: Store, database: str) -> None:
    """Refuse a place that no person has named, where it is not ours and something is there."""
    if store.is_ours():
        return
    if not store.is_empty() or (isinstance(store, FileStore) and store.root.is_symlink()):
        raise StudyError(
            f"the files of {database} are in {store.address}, which is not empty and has no note of vitsearch "
            f"({NOTE}): was the folder replaced, or is it another's? To use it all the same, write its path as 'files' "
            "into the space file"
        )


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
    return store_at(address)


def store_at(address: str) -> Store:
    """The store at a place for files, written as by `files_address`."""
    return RemoteStore(address) if "://" in address else FileStore(Path(address))
