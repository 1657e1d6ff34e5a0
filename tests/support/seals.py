"""The digests of a database that somebody has edited who knows them."""

import sqlite3
from contextlib import closing, suppress

from vitsearch.storage.ledger.seals import SEALED, row_digest
from vitsearch.storage.ledger.trial_rows import ENDED, asked_digest, told_digest


def reseal(database):
    """Give each row of a SQLite file the digest of what it has; a table that is none of ours any more stays."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory, connection.text_factory = sqlite3.Row, lambda stored: str(stored, "utf-8", "replace")
        for table in SEALED:
            with suppress(sqlite3.OperationalError, IndexError):  # no such table, no such column
                for row in connection.execute(f"SELECT rowid AS place, * FROM {table.name}").fetchall():
                    digest = row_digest(table, row)
                    connection.execute(f"UPDATE {table.name} SET digest = ? WHERE rowid = ?", (digest, row["place"]))
        with suppress(sqlite3.OperationalError, IndexError):
            for row in connection.execute("SELECT rowid AS place, * FROM vs_trial").fetchall():
                asked = asked_digest(row["number"], row["fixed"], row["params"], row["notes"])
                ended = row["state"] in ENDED
                told = told_digest(row["number"], row["state"], row["record"]) if ended else None
                digests = "UPDATE vs_trial SET asked_digest = ?, told_digest = ? WHERE rowid = ?"
                connection.execute(digests, (asked, told, row["place"]))
        connection.commit()
