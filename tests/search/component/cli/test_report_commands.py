"""`vitsearch report`: which files it writes, and what it says."""

from __future__ import annotations

import sys

import pytest

from vitsearch.cli.app import main


@pytest.fixture
def vitsearch(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["vitsearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def database(finished):
    return finished.folder / "fake.db"


@pytest.mark.long
def test_the_three_files(vitsearch, database, tmp_path):
    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "svg", "png")}
    code, out, _ = vitsearch("report", database, "--to", files["html"], "--svg", files["svg"], "--png", files["png"])
    assert code == 0
    assert sorted(line.split()[1] for line in out.splitlines()) == sorted(map(str, files.values()))
    starts = {kind: file.read_bytes()[:15] for kind, file in files.items()}
    assert starts["html"] == b"<!doctype html>"
    assert starts["svg"].startswith(b"<svg ")
    assert starts["png"].startswith(b"\x89PNG")


def test_a_report_of_nothing_is_refused(vitsearch, database):
    code, _, err = vitsearch("report", database)
    assert code == 2
    assert "say what to write: --to FILE.html, --svg FILE.svg or --png FILE.png" in err


def test_a_file_that_cannot_be_written_is_one_line(vitsearch, database, tmp_path):
    code, out, err = vitsearch("report", database, "--to", tmp_path)
    assert (code, out, err) == (1, "", f"{tmp_path} cannot be written: it is a folder\n")


@pytest.mark.parametrize("option", ["--to", "--svg", "--png"])
def test_no_folder_is_made(vitsearch, database, tmp_path, option):
    file = tmp_path / "new" / "report"
    code, out, err = vitsearch("report", database, option, file)
    assert (code, out, err) == (1, "", f"{file} cannot be written: there is no folder {tmp_path / 'new'}\n")
    assert not file.parent.exists()


@pytest.mark.parametrize("command", ["serve", "dashboard"])
def test_a_study_that_does_not_exist_is_one_line(vitsearch, tmp_path, command):
    code, out, err = vitsearch(command, tmp_path / "nothing.db")
    assert (code, out) == (2, "")
    assert err.startswith("no study 'nothing': ")
    assert len(err.splitlines()) == 1
