"""`vitsearch studies`: which places it lists."""

from __future__ import annotations

from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.errors import StudyError


def test_a_database_on_a_server_is_not_taken_for_a_folder():
    done = CliRunner().invoke(app, ["studies", "list", "postgresql+psycopg://ana:secret@db/team"])
    url = "postgresql+psycopg://ana:***@db/team"
    assert isinstance(done.exception, StudyError)
    assert str(done.exception) == (
        f"{url} is a database, not a folder; vitsearch status '{url}' shows its study or names them"
    )
