"""What a database holds at one moment, as plain rows that can be written into another one.

A snapshot is one read transaction: a run that goes on meanwhile changes nothing in it. Rows are without the numbers
that a database gives them; those of a run have its place in the list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Column, Connection, Select, Table, and_, select

from vitsearch.core.decoding import expect, parsed
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import connect_to_read, shown
from vitsearch.storage.ledger.rows import Detail, artifact_files
from vitsearch.storage.ledger.seals import MADE_AGAIN, RESULTS, SEALED, whole

Row: TypeAlias = dict[str, Any]

MODEL = "model"
"""The kind of an exported model; other artifacts are single files."""
KEYS = {
    tables.training.name: "weights_key",
    tables.artifact.name: "artifact_key",
    tables.evaluation.name: "artifact_key",
    tables.measurement.name: "graph_key",
}
"""By which key of a trial its results are found."""

OF_A_PROCESS = ("id", "driver", "ended_at", "told_to_end", "now")
"""Columns of a run that say which process it is, and what that does: in a copy it is none."""


@dataclass(frozen=True)
class StudyRows:
    """A study. Two with equal rows are the same study. `costs` are what the stages of its runs took."""

    name: str
    objectives: str
    attributes: list[Row]
    trials: list[Row]
    runs: list[Row]
    costs: list[Row]

    @property
    def open(self) -> int:
        """How many trials wait to be asked."""
        return sum(trial["state"] == "WAITING" for trial in self.trials)


@dataclass(frozen=True)
class ResultRows:
    """Results of finished stages, by table, and what the runs took that made them, without the runs of a study."""

    tables: dict[str, list[Row]]
    costs: list[Row]

    @property
    def count(self) -> int:
        return sum(len(self.tables[table.name]) for table in RESULTS)

    def files(self) -> list[str]:
        """The digests of the files that they name, without models. Each once."""
        artifacts = [row for row in self.tables[tables.artifact.name] if row["kind"] not in (MODEL, Stage.SCREEN.value)]
        named = [
            *(row["statistics_sha256"] for row in self.tables[tables.block_structure.name]),
            *(row["checkpoint_sha256"] for row in self.tables[tables.training.name]),
            *_files_of(artifacts),
        ]
        return list(dict.fromkeys(filter(None, named)))

    def models(self) -> list[str]:
        """The digests of the models that they name, each once. A screened one is deleted after its measurement."""
        models = [row for row in self.tables[tables.artifact.name] if row["kind"] == MODEL]
        return list(dict.fromkeys(_files_of(models)))


def _files_of(artifacts: Iterable[Row]) -> Iterator[str]:
    for row in artifacts:
        where = f"{tables.artifact.name} of {row['artifact_key'][:12]}: detail"
        expect(Detail, detail := row["detail"].value(where), where)
        yield from artifact_files(row["sha256"], detail)


@contextmanager
def snapshot(url: str) -> Iterator[Snapshot]:
    """Look at a database as it is now, for the block."""
    engine = connect_to_read(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # Python's driver begins none before a SELECT
            else:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield Snapshot(connection)
    finally:
        engine.dispose()


class Snapshot:
    """Made by `snapshot`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        rows = whole(connection, select(tables.study), tables.study, shown(connection.engine))
        self._studies = {row["name"]: row for row in rows}

    @property
    def names(self) -> list[str]:
        """The studies of the database."""
        return list(self._studies)

    def study(self, name: str, left_out: Collection[str] = ()) -> StudyRows:
        """A study without the attributes `left_out`. Trials that run are waiting ones: the driver that runs them
        is none of the copy's."""
        study_id = self._studies[name]["id"]
        attributes = [row for row in self._of_study(tables.study_attribute, study_id) if row["name"] not in left_out]
        trials = [_at_rest(row) for row in self._of_study(tables.trial, study_id)]
        return StudyRows(name, self._studies[name]["objectives"], attributes, trials, *self._runs(name))

    def results(self, studies: Collection[str]) -> ResultRows:
        """The results that `studies` need: all but those that only trials of other studies name."""
        mine = {key for name in studies for key in self._keys(name)}
        foreign = {key for name in self._studies.keys() - set(studies) for key in self._keys(name)} - mine
        rows_of = {}
        for table in MADE_AGAIN:
            rows = self._rows(select(*_columns(table)).order_by(*table.primary_key), table)
            key = KEYS.get(table.name)
            rows_of[table.name] = [row for row in rows if key is None or row[key] not in foreign]
        made_by = {row["made_by"] for table in RESULTS for row in rows_of[table.name]}
        costs = self._rows(select(*_columns(tables.stage_cost)).order_by(tables.stage_cost.c.id), tables.stage_cost)
        return ResultRows(rows_of, [row | {"run": None} for row in costs if row["run_id"] in made_by])

    def _runs(self, name: str) -> tuple[list[Row], list[Row]]:
        """The runs of a study, and the costs of their stages."""
        run, cost = tables.run, tables.stage_cost
        runs = self._connection.execute(select(run).where(run.c.study == name).order_by(run.c.id)).mappings().all()
        places = {row["id"]: place for place, row in enumerate(runs)}
        of_runs = select(*_columns(cost)).where(cost.c.run.in_(select(run.c.id).where(run.c.study == name)))
        costs = self._rows(of_runs.order_by(cost.c.id), cost)
        plain = [{key: value for key, value in row.items() if key not in OF_A_PROCESS} for row in runs]
        return plain, [row | {"run": places[row["run"]]} for row in costs]

    def _keys(self, name: str) -> Iterator[str]:
        """The keys that a study names: of its trials, of its baseline, of what was shipped."""
        trial, attribute, study_id = tables.trial.c, tables.study_attribute.c, self._studies[name]["id"]
        records = select(trial.record).where(and_(trial.study == study_id, trial.record.is_not(None)))
        attributes = select(attribute.value).where(attribute.study == study_id)
        for query in (records, attributes):
            for text in self._connection.execute(query).scalars():
                yield from _keys_in(parsed(text, f"an attribute of study {name!r}"))

    def _of_study(self, table: Table, study_id: int) -> list[Row]:
        columns = [column for column in table.c if column is not table.c.study]
        return self._rows(select(*columns).where(table.c.study == study_id).order_by(*table.primary_key), table)

    def _rows(self, query: Select[Any], table: Table) -> list[Row]:
        """The rows of a query of a table. A trial keeps its digests in the copy, whole or not."""
        if table in SEALED:
            return list(map(dict, whole(self._connection, query, table, shown(self._connection.engine))))
        return [dict(row) for row in self._connection.execute(query).mappings()]


def _columns(table: Table) -> Sequence[Column[Any]]:
    """All columns but a number that the database gives."""
    return [column for column in table.c if not (column.primary_key and column.autoincrement is True)]


def _at_rest(trial: Row) -> Row:
    """A trial that nobody runs."""
    return trial | {"beat_at": None} | ({"state": "WAITING"} if trial["state"] == "RUNNING" else {})


def _keys_in(value: Any) -> Iterator[str]:
    """The keys of models anywhere in what a study stores."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in KEYS.values() and isinstance(inner, str):
                yield inner
            else:
                yield from _keys_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys_in(inner)
