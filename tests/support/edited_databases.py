"""Databases of which somebody has edited one thing, and what the commands make of them."""

import json
import shutil
import sqlite3
from contextlib import closing

from typer.testing import CliRunner

from support.seals import reseal
from vitsearch.cli.app import app
from vitsearch.errors import VitsearchError
from vitsearch.report.live import LiveStudy
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study

JSON_COLUMNS = (
    ("vs_block_structure", "block_structure"),
    ("vs_block_structure", "scores"),
    ("vs_block_structure", "versions"),
    ("vs_training", "qualities"),
    ("vs_training", "versions"),
    ("vs_artifact", "detail"),
    ("vs_artifact", "versions"),
    ("vs_evaluation", "figures"),
    ("vs_evaluation", "tally"),
    ("vs_evaluation", "versions"),
    ("vs_measurement", "result"),
    ("vs_measurement", "versions"),
    ("vs_study", "objectives"),
    *(("vs_trial", column) for column in ("driver", "fixed", "params", "notes", "record")),
)
BY_KEY = ("vs_study_attribute",)
DEEP = "[" * 100_000
TEXTS = {
    "null": "null",
    "list": "[]",
    "object": "{}",
    "number": "7",
    "string": '"x"',
    "truncated": None,
    "infinite": "1e999",
    "nan": "NaN",
    "deep": DEEP,
    "nested": "[" * 900 + "]" * 900,
    "large": json.dumps("x" * 5_000_000),
    "half a character": '"\\ud800"',
}
VALUES = (None, "x", -1, 1e400, [], {"x": 1})
"""What takes the place of each value within JSON."""
COLUMN_VALUES = (None, "x", b"\xff\x00", -1, float("inf"))


def places(database):
    """Every JSON value of the database: a name, its table, its column, a row and the text."""
    with closing(sqlite3.connect(database)) as connection:
        for table, column in JSON_COLUMNS:
            is_there = f"WHERE {column} IS NOT NULL ORDER BY rowid LIMIT 1"
            for row, text in connection.execute(f"SELECT rowid, {column} FROM {table} {is_there}"):
                yield f"{table}.{column}", table, column, row, text
        for table in BY_KEY:
            query = f"SELECT MIN(rowid), name, value FROM {table} GROUP BY name"
            for row, key, text in connection.execute(query).fetchall():
                yield f"{table}.{key}", table, "value", row, text


def texts(database):
    """Each JSON value replaced as a whole."""
    for name, table, column, row, text in places(database):
        for what, new in TEXTS.items():
            yield f"{name} {what}", _replace(table, column, row, text[:-2] if new is None else new)


def leaves(database):
    """Each value within JSON replaced, and each key missing or renamed; of lists only the first item."""
    for name, table, column, row, text in places(database):
        value = json.loads(text)
        for path in _paths(value):
            for new in VALUES:
                changed = json.dumps(_with(value, path, new))
                yield f"{name} {_dotted(path)} {new}", _replace(table, column, row, changed)
            if isinstance(path[-1], str):
                yield (
                    f"{name} {_dotted(path)} missing",
                    _replace(table, column, row, json.dumps(_with(value, path, None, "drop"))),
                )
                yield (
                    f"{name} {_dotted(path)} renamed",
                    _replace(table, column, row, json.dumps(_with(value, path, None, "rename"))),
                )


def columns(database):
    """Each other column replaced in one row and in all, each column and each table dropped, other versions."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
        filled = {name for name in names if connection.execute(f"SELECT 1 FROM {name}").fetchone()}
    for table, known in tables.items():
        yield f"{table} dropped", [(f"DROP TABLE {table}", ())]
        yield f"{table} emptied", [(f"DELETE FROM {table}", ())]
        for column in known:
            yield f"{table}.{column} renamed", [(f"ALTER TABLE {table} RENAME COLUMN {column} TO other", ())]
            if (table, column) in JSON_COLUMNS or table in BY_KEY and column == "value" or table not in filled:
                continue
            for new in COLUMN_VALUES:
                one = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE rowid = (SELECT MIN(rowid) FROM {table})"
                yield f"{table}.{column} {new!r}", [("PRAGMA ignore_check_constraints=1", ()), (one, (new,))]
    for version in ("0000", "9999", "v9.9.9.z", ""):
        yield f"vitsearch_version {version!r}", [("UPDATE vitsearch_version SET version_num = ?", (version,))]
    yield "two versions", [("INSERT INTO vitsearch_version VALUES ('0')", ())]
    yield "a trial is missing", [("DELETE FROM vs_trial WHERE number = 1", ())]


def _replace(table, column, row, text):
    return [(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (text, row))]


def _paths(value, above=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*above, key)
        yield from _paths(one, (*above, key))


def _with(value, path, new, how="replace"):
    key, *rest = path
    if isinstance(value, list):
        return [_with(value[0], rest, new, how) if rest else new, *value[1:]]
    if rest:
        return value | {key: _with(value[key], rest, new, how)}
    if how == "replace":
        return value | {key: new}
    others = {name: one for name, one in value.items() if name != key}
    return others if how == "drop" else others | {f"{key}_": value[key]}


def _dotted(path):
    return ".".join(map(str, path))


class Edited:
    """Copies of one database, each with one edit."""

    def __init__(self, database, space, folder):
        self._database, self._folder = database, folder
        self._copy = folder / "fake.db"
        self._space = SearchSpace.from_json(space.to_json() | {"storage": f"sqlite:///{self._copy}"})

    def wrong(self, edit):
        """What is neither shown nor refused in one line, by command."""
        self.copy_with(edit)
        found = {name: _outcome(self._run, arguments) for name, arguments in self._commands().items()}
        found |= {"serve": _outcome(self._serve), "open": _outcome(self._open)}
        return {name: said for name, said in found.items() if said}

    def copy_with(self, edit):
        """The path of a copy with this edit."""
        for old in self._folder.glob("*.db*"):
            old.unlink()
        shutil.copyfile(self._database, self._copy)
        with closing(sqlite3.connect(self._copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            for statement, values in edit:
                try:
                    connection.execute(statement, values)
                except sqlite3.IntegrityError:  # NOT NULL: the table refuses it
                    break
        reseal(self._copy)
        return str(self._copy)

    def _commands(self):
        where = str(self._copy)
        return {
            "front": ["front", where],
            "show": ["show", where, "0"],
            "status": ["status", where],
            "explain": ["explain", where],
            "list": ["studies", "list", str(self._folder)],
            "copy": ["db", "copy", where, str(self._folder / "copied.db")],
        }

    def _run(self, arguments):
        done = CliRunner().invoke(app, arguments)
        if isinstance(done.exception, SystemExit) and done.exit_code == 1:
            return  # a study without a model has no front, and says so
        if done.exception is not None:
            raise done.exception

    def _serve(self):
        live = LiveStudy(str(self._copy))
        try:
            live.data()
        finally:
            live.close()

    def _open(self):
        with closing(Ledger.open(self._space.storage)), closing(Study.open(self._space)) as study:
            study.recover()
            study.records()
            study.baseline()


def _outcome(call, *arguments):
    try:
        call(*arguments)
    except VitsearchError as error:
        text = str(error)
        return (
            ""
            if "\n" not in text and len(text) < 1000
            else f"{type(error).__name__}, {len(text)} characters: {text[:2000]}"
        )
    except BaseException as error:  # noqa: BLE001 - what no user should see
        return f"{type(error).__name__}: {str(error)[:200]} {_last(error)}"
    return ""


def _last(error):
    """The innermost line of ours."""
    found, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "/vitsearch/" in name:
            found = f"{name.partition('/vitsearch/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
