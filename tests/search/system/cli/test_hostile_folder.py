"""A folder is not code: every command, in a folder full of modules named as what Python and the libraries import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from support import PYTHON_PATH
from support.hostile_folder import HostileFolder
from support.real_search import APART, write_images
from vitsearch.cli.app import app

WALK = """
import json, signal, sys
from support.quick_search import shorten
from vitsearch.cli.app import main

class Served(BaseException):
    pass

def serves(number, frame):
    raise Served

shorten()
signal.signal(signal.SIGALRM, serves)
for command in json.loads(sys.argv[1]):
    sys.argv = ["vitsearch", *command]
    print("$", *command, flush=True)
    signal.alarm(0 if command[0] == "run" else 60)
    try:
        main()
    except (SystemExit, Served) as ended:
        print("->", repr(ended), flush=True)
    signal.alarm(0)
"""
"""All commands in one process, as a start costs a second. Those that serve are ended after a while."""


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, below in command.commands.items():
        yield from leaves(below, (*words, name))


def every_command(values: dict[str, str]) -> list[list[str]]:
    """A line of each command. `values` are those of arguments, by metavar, and of options, by name."""
    lines = []
    for words, command in leaves(typer.main.get_command(app)):
        line = list(words)
        for parameter in command.params:
            if parameter.param_type_name == "argument" and (parameter.required or parameter.metavar in values):
                line.append(values.get(parameter.metavar, "thing"))
            elif parameter.opts[0] in values and not parameter.is_flag:
                line += [parameter.opts[0], values[parameter.opts[0]]]
        lines.append(line)
    return lines


def walk(folder: Path, commands: Sequence[Sequence[str]]) -> str:
    """What all commands print in a folder."""
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "PIP_NO_INDEX": "1", "COLUMNS": "200"}
    code = [sys.executable, "-P", "-c", WALK, json.dumps(commands)]
    done = subprocess.run(
        code,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        umask=0,
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> HostileFolder:
    return HostileFolder(tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("marks") / "marks")


def test_no_command_runs_a_module_of_the_folder(hostile):
    printed = walk(hostile.folder, every_command({"BACKBONE": "test_vit"}))
    assert hostile.marks() == [], printed


SPACE = """
study: hostile
task:
  data: {{source: folder, root: "{images}"}}
  base: {{epochs: 4, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, size_mb: minimize}}
limits: {{accuracy: {{max_drop: 0.9}}}}
space:
  backbone: {{name: {backbone}, weights: none}}
  resolution: 32
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: [0.0, 0.75]
  quantization: fp32
  batch: 1
search: {{trials: 1, candidates: 1, margin: 1.0}}
storage: "sqlite:///hostile.db"
"""
NETWORK = """
from timm import create_model

def build(classes, size):
    return create_model("test_vit", num_classes=classes, img_size=size)
"""


@pytest.mark.long
def test_a_search_and_each_command_on_its_study_run_no_module_of_the_folder(hostile, tmp_path, monkeypatch):
    monkeypatch.setenv("VITSEARCH_CONVERTERS", str(tmp_path / "converters"))
    write_images(tmp_path / "images", APART, side=32)
    (hostile.folder / "space.yaml").write_text(SPACE.format(images=tmp_path / "images", backbone="test_vit"))
    values = {
        "SPACE": "space.yaml",
        "STUDY": "hostile.db",
        "MODEL": "knee",
        "BUNDLE": "bundle",
        "BACKBONE": "test_vit",
        "NAME": "litert",
        "--to": "bundle",
        "--data": str(tmp_path / "images"),
    }
    commands = sorted(every_command(values), key=lambda line: line[0] != "run")
    printed = walk(hostile.folder, commands)
    assert hostile.marks() == [], printed
    assert "The front: vitsearch front hostile.db" in printed
    assert (hostile.folder / "bundle" / "SHA256SUMS").exists(), printed
    written = [*hostile.folder.rglob("*"), *Path(os.environ["HOME"]).rglob("*")]
    assert [path for path in written if not path.is_symlink() and path.stat().st_mode & 0o002] == [], "umask 000"
