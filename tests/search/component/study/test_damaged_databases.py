"""Databases that a disk has damaged: each command answers as before, or says in one sentence what is wrong."""

from __future__ import annotations

import json
import logging
import random
import shutil
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.errors import VitsearchError
from vitsearch.report.data import read_report
from vitsearch.study.lookup import opened

ACCOUNTS = ("time", "cost", "seconds", "cpu", "run", "eta", "wall", "progress", "busy")
"""In what these words name, a status tells what runs took, which has no digest."""


@pytest.fixture(scope="module")
def sound(finished, tmp_path_factory):
    """A database in one file."""
    path = tmp_path_factory.mktemp("sound") / "fake.db"
    shutil.copyfile(finished.folder / "fake.db", path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return path


def damaged(sound, folder, number):
    """A copy in which a bit, a byte or a block has changed, at places that depend on the number alone."""
    draw, content = random.Random(number), bytearray(sound.read_bytes())
    at = draw.randrange(len(content))
    if number % 4 == 3:
        content[at : at + 64] = draw.randbytes(len(content[at : at + 64]))
    elif number % 4 == 2:
        content[at] = draw.randrange(256)
    else:
        content[at] ^= 1 << draw.randrange(8)
    path = folder / "fake.db"
    path.write_bytes(content)
    return path


def without_accounts(value):
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if not any(word in name for word in ACCOUNTS)}
        return {name: without_accounts(item) for name, item in kept.items()}
    return [without_accounts(item) for item in value] if isinstance(value, list) else value


def answers(path):
    """What each command says of a database: its JSON, or the sentence of an error of ours, and the warnings."""
    commands = {
        "front": ["front", str(path), "--json"],
        "show": ["show", str(path), "0", "--json"],
        "explain": ["explain", str(path), "--json"],
        "status": ["status", str(path), "--json"],
        "list": ["studies", "list", str(path.parent), "--json"],
    }
    given = {name: _answer(lambda arguments=arguments: _printed(arguments)) for name, arguments in commands.items()}
    return given | {"report": _answer(lambda: _models(path))}


def _models(path):
    with opened(str(path)) as (study, ledger):
        report = read_report(study, ledger, "fake")
        measured = sorted(
            (r.keys.graph_key, len(ledger.measurements(r.keys.graph_key, r.keys.device_id)))
            for r in study.records().values()
            if r.keys
        )
        return [
            repr(report.front) if hasattr(report, "front") else "",
            measured,
            sorted(map(str, study.records().items())),
        ]


def _printed(arguments):
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not (isinstance(done.exception, SystemExit) and done.exit_code in (0, 1)):
        raise done.exception
    value = json.loads(done.stdout) if done.stdout.strip() else done.stderr
    if arguments[0] == "studies":
        return [{**each, "database_bytes": 0, "database": ""} for each in value]
    return without_accounts(value) if arguments[0] == "status" else value


def _answer(call):
    heard = _Heard()
    logging.getLogger("vitsearch").addHandler(heard)
    try:
        return call(), heard.texts
    except VitsearchError as error:
        return error, heard.texts
    finally:
        logging.getLogger("vitsearch").removeHandler(heard)


class _Heard(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def wrong(sound, folder, number, expected):
    """What is neither the right answer nor one sentence, by command."""
    path = damaged(sound, folder, number)
    faults = {}
    try:
        given = answers(path)
    except Exception as error:  # noqa: BLE001 - what no user should see
        return {"exception": f"{type(error).__name__}: {error}"}
    for name, (answer, warnings) in given.items():
        if isinstance(answer, VitsearchError):
            if "\n" in str(answer) or len(str(answer)) > 1000 or not str(answer).strip():
                faults[name] = str(answer)
        elif answer != expected[name][0] and not warnings:
            faults[name] = f"another answer: {answer}"
    return faults


def faults(sound, folder, numbers):
    shutil.copyfile(sound, folder / "fake.db")
    expected = answers(folder / "fake.db")
    return {number: fault for number in numbers if (fault := wrong(sound, folder, number, expected))}


def test_what_a_disk_has_damaged_is_named_or_does_not_matter(sound, tmp_path):
    assert faults(sound, tmp_path, range(20)) == {}


@pytest.mark.long
def test_two_hundred_faults_of_a_disk_are_named_or_do_not_matter(sound, tmp_path):
    assert faults(sound, tmp_path, range(20, 220)) == {}
