"""``vitsearch check`` says what the file alone shows before it loads what builds models."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from vitsearch.cli.app import app

WRONG = """
task: {data: {source: folder, root: %s}}
objectves: {accuracy: maximize}
space: {backbone: [%s], resolution: 28}
"""

LOADS = """
import sys
from pathlib import Path
from vitsearch.cli.checking import of_file
of_file(Path(sys.argv[1]), [])
print(sorted({"torch", "timm", "optuna", "ray", "numpy"} & set(sys.modules)))
"""


@pytest.fixture
def wrong(tmp_path):
    def write(backbone="vit_fmnist_p4", root="missing"):
        (tmp_path / "wrong.yaml").write_text(WRONG % (tmp_path / root, backbone))
        return tmp_path / "wrong.yaml"

    return write


def test_problems_of_the_file_are_said_without_torch(wrong):
    done = subprocess.run([sys.executable, "-c", LOADS, wrong()], capture_output=True, text=True, check=True)
    assert "line 3: unknown key 'objectves'; did you mean 'objectives'?" in done.stderr
    assert done.stdout.strip() == "[]"


def test_each_problem_is_said_once(wrong):
    done = CliRunner().invoke(app, ["check", str(wrong("vit_fmnist_p5"))])
    lines = done.output.splitlines()
    assert done.exit_code == 2
    assert len([line for line in lines if "objectves" in line]) == 1
    assert lines[0].endswith("wrong.yaml: 1 problem")
    assert any(line.endswith("wrong.yaml: 2 more problems") for line in lines)
    assert sum("vit_fmnist_p5" in line for line in lines) == 1
    assert sum("missing" in line for line in lines) >= 1
