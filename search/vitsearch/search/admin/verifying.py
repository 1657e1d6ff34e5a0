"""Whether everything that studies have stored is as it was written: each row and each file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

from vitsearch.errors import VitsearchError
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger import Damage, Ledger, damage_of
from vitsearch.storage.stores import store_of
from vitsearch.study.lookup import FOLDER, find_all


@dataclass(frozen=True)
class StoredDamage(Damage):
    """Damage of a database or of its files."""

    database: str
    """The database, without its password."""


def verify(names: Collection[str]) -> Iterator[StoredDamage]:
    """The damage of the databases of studies, by default of those in `studies/`. Everything stays as it is: a run drops
    what it makes again, where it needs it."""
    places = names or [str(path) for path in sorted(FOLDER.glob("*.db"))]
    for storage in dict.fromkeys(find_all(name)[0] for name in places):
        for damage in _damage(storage):
            yield StoredDamage(**vars(damage), database=masked(storage))


def _damage(storage: str) -> Iterator[Damage]:
    files: set[str] = set()
    yield from damage_of(storage, files)
    try:
        with closing(Ledger.to_read(storage)) as ledger:
            store = store_of(ledger)
    except VitsearchError:  # said above
        return
    for sha256 in sorted(files):
        if not store.holds(sha256):
            yield Damage("files", sha256, f"it is gone from {store.address}, or its content is another", True)
