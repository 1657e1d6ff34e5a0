"""Finds a study by what a person types: its name, its `.db` file, a storage URL, or its space file.

`#NAME` behind a file or URL names one of several studies in that database; the only study needs no name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitsearch.core import study_name
from vitsearch.core.decoding import Damaged
from vitsearch.errors import StudyError, did_you_mean
from vitsearch.space import load
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger import Ledger, is_there, sqlite_file
from vitsearch.study.database.opening import holds_studies, study_names
from vitsearch.study.study import Study

FOLDER = Path("studies")


@dataclass(frozen=True)
class StudyLocation:
    storage: str
    name: str


def find(text: str) -> StudyLocation:
    """Where a study is; `StudyError` names the file that does not exist and similar studies."""
    if "://" in text:
        storage, _, name = text.rpartition("#") if "#" in text else (text, "", "")
        location = StudyLocation(storage, name or _only_study(storage))
    elif text.endswith((".yaml", ".yml")):
        space = load(text).space
        location = StudyLocation(space.storage, space.study)
    else:
        path, _, name = text.partition("#")
        is_name = "/" not in path and not path.endswith(".db")
        database = FOLDER / f"{path}.db" if is_name else Path(path).with_suffix(".db")
        location = StudyLocation(f"sqlite:///{database}", name or database.stem)
        if not name and not is_name and is_there(database) and location.name not in study_names(location.storage):
            location = StudyLocation(location.storage, _only_study(location.storage))
    file = sqlite_file(location.storage)
    if file is not None and not is_there(file):
        near = did_you_mean(text, [path.stem for path in FOLDER.glob("*.db")])
        raise StudyError(
            f"no study {location.name!r}: {file} does not exist{near}; start one with 'vitsearch run SPACE'"
        )
    study_name.checked(location.name)  # a name from a database becomes a path
    return location


def text_for(storage: str, name: str) -> str:
    """What `find` finds a study by: its name where it is in its own file in the folder `studies`."""
    file = sqlite_file(storage)
    if file is None:
        return f"{masked(storage)}#{name}"
    if file.stem != name:
        return f"{file}#{name}"
    return name if file.parent == FOLDER else str(file)


def _only_study(storage: str) -> str:
    file, shown = sqlite_file(storage), masked(storage)
    if file is not None and not is_there(file):
        raise StudyError(f"{file} does not exist")
    names = study_names(storage)
    if len(names) == 1:
        return names[0]
    if not names:
        raise StudyError(f"{shown!r} holds no study; start one with 'vitsearch run SPACE'")
    addresses = ", ".join(f"{shown}#{name}" for name in names)
    raise StudyError(f"{shown!r} holds several studies; write one of: {addresses}")


def find_all(text: str) -> tuple[str, str | None]:
    """The database that holds what `text` names, and the study; None for all studies, where `text` is a URL or a
    `.db` file without `#NAME`."""
    if "#" not in text and ("://" in text or text.endswith(".db")):
        storage = find_database(text)
        file = sqlite_file(storage)
        if file is not None and not is_there(file):
            raise StudyError(f"{file} does not exist")
        return storage, None
    location = find(text)
    return location.storage, location.name


def find_database(text: str) -> str:
    """The URL of a database: a URL as it is, or that of a `.db` file."""
    if "#" in text:
        raise StudyError(f"{masked(text)!r} names a study; a database is a storage URL or a .db file")
    if "://" in text:
        sqlite_file(text)  # refuses what is not a URL
        return text
    if not text.endswith(".db"):
        raise StudyError(f"{text!r} is not a database; allowed: a .db file, sqlite:///FILE, postgresql+psycopg://...")
    return f"sqlite:///{text}"


@contextmanager
def opened(text: str) -> Iterator[tuple[Study, Ledger]]:
    """The study and its ledger, to read: whoever can read its file can, also where nothing can be written."""
    location = _existing(text)
    with (
        _named(location.storage),
        closing(Ledger.to_read(location.storage)) as ledger,
        closing(Study.read(location.storage, location.name)) as study,
    ):
        yield study, ledger


@contextmanager
def _named(storage: str) -> Iterator[None]:
    """Name the database in an error about a row, which does not know where it is."""
    try:
        yield
    except Damaged as error:
        if masked(storage) in str(error):
            raise
        raise Damaged(f"storage {masked(storage)}: {error}") from None


@contextmanager
def opened_to_change(text: str) -> Iterator[tuple[Study, Ledger]]:
    """The study and its ledger, for a command that adds to them."""
    location = _existing(text)
    with (
        closing(Ledger.open(location.storage)) as ledger,
        closing(Study.change_existing(location.storage, location.name)) as study,
    ):
        yield study, ledger


def _existing(text: str) -> StudyLocation:
    location = find(text)
    if not holds_studies(location.storage):  # our tables are not made in a database of another program
        raise StudyError(f"{masked(location.storage)!r} holds no study; start one with 'vitsearch run SPACE'")
    return location
