"""`vitsearch init` and `vitsearch agent-pyz`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from vitsearch.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_boards_and_examples_are_listed():
    lines = run("init", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines][:3] == ["here", "intel_cpu", "jetson_nano"]
    assert lines[-1].startswith("--example: ")
    assert max(map(len, lines)) <= 80 or lines[-1].startswith("--example")


def test_without_data_and_without_a_person_to_ask_it_says_what_is_missing(tmp_path):
    done = run("init", tmp_path / "x.yaml")
    assert done.exit_code == 2
    assert "name the folder of your images: --data FOLDER" in done.output


def test_an_example_says_what_is_next(tmp_path):
    done = run("init", tmp_path / "x.yaml", "--example", "quickstart")
    assert done.stdout == f"{tmp_path}/x.yaml: next: vitsearch run {tmp_path}/x.yaml\n"


def test_the_agent_is_one_file_that_runs(tmp_path):
    file = tmp_path / "agent.pyz"
    done = run("agent-pyz", file)
    assert f"{file}: copy it to the board and run there: sudo python3 agent.pyz install" in done.stdout
    shown = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, check=True)
    assert "serve" in shown.stdout


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_keeps_its_place(tmp_path, kind):
    file = tmp_path / "agent.pyz"
    (tmp_path / "precious").write_text("precious")
    {"link": lambda: file.symlink_to(tmp_path / "precious"), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}[
        kind
    ]()
    done = run("agent-pyz", file)
    assert "cannot be written: it is a" in str(done.exception)
    assert (tmp_path / "precious").read_text() == "precious"


def test_damaged_photos_are_named_by_the_command_and_nothing_is_written(tmp_path):
    for name in ("ok", "scratch"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 30), (number, len(name), 0)).save(tmp_path / "data" / name / f"{number}.png")
    (tmp_path / "data" / "ok" / "page.png").write_text("no image")
    command = [sys.executable, "-m", "vitsearch", "init", "parts.yaml", "--data", "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "data/ok/page.png: not an image, or damaged" in done.stderr
    assert "parts.yaml was not written: mend the data and type the command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert "named above" not in done.stderr, "no key of the file is named: the folder is called data"
    assert not (tmp_path / "parts.yaml").exists()
