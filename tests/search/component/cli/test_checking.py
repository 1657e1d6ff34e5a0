"""`vitsearch check` says what the file alone shows before it loads what builds models."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from support.real_search import APART, write_images
from vitsearch.cli import checking
from vitsearch.cli.app import app
from vitsearch.cli.checking import CheckRequest, Report, check_all
from vitsearch.search import check
from vitsearch.search.check import connections, costs

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

FINE = """
task: {data: {source: folder, root: FOLDER/images}}
objectives: {accuracy: maximize, cpu_ms_p50: minimize}
space: {backbone: vit_fmnist_p4, resolution: 28}
"""

SLOW = """
import sys
from pathlib import Path
from vitsearch.cli.checking import CheckRequest, Report, check_all
from vitsearch.search import check
check.check_weights_of = lambda *_: sys.stdin.readline() and sys.exit()
check_all(CheckRequest(Path(sys.argv[1])), Report(as_json=False))
"""


class Stopped(Exception):
    pass


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


def test_the_name_of_an_unknown_task_is_said_once(fine):
    fine.write_text(fine.read_text().replace("task: {", "task: {kind: segmentatoin, "))
    done = CliRunner().invoke(app, ["check", str(fine)])
    assert done.exit_code == 2
    assert done.output.count("no task is called 'segmentatoin'; did you mean 'segmentation'?") == 1


# ---- each part as soon as it is known


@pytest.fixture
def fine(tmp_path):
    write_images(tmp_path / "images", APART)
    path = tmp_path / "fine.yaml"
    path.write_text(FINE.replace("FOLDER", str(tmp_path)))
    return path


@pytest.mark.parametrize(
    ("step", "printed"),
    [
        ("check_weights_of", "classes: 3"),
        ("count_models", "fine.yaml: fine. "),
        ("estimate_time", "models: "),
    ],
)
def test_each_part_is_printed_before_the_next_one_begins(fine, monkeypatch, capsys, step, printed):
    seen = []

    def begins(*_):
        seen.append(capsys.readouterr().out)
        raise Stopped

    monkeypatch.setattr(costs, "COUNTING_S", 0.0)
    monkeypatch.setattr(check, "estimate_time", lambda _: None)
    monkeypatch.setattr(check, step, begins)
    with pytest.raises(Stopped):
        check_all(CheckRequest(fine), Report(as_json=False))
    assert printed in seen[0]


@pytest.mark.long
def test_a_pipe_gets_a_part_while_the_next_one_takes_long(fine):
    command = [sys.executable, "-c", SLOW, str(fine)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]  # blocks without end if nothing is flushed
        process.communicate("go on\n")
    assert lines[0].startswith("data: 60 images")


def test_json_is_one_document_whatever_is_said_meanwhile(fine, monkeypatch):
    monkeypatch.setattr(checking, "SILENT_S", 0.0)
    done = CliRunner().invoke(app, ["check", "--no-costs", "--json", str(fine)])
    assert json.loads(done.stdout)["connections"] is None
    assert "reading the images ..." in done.stderr


def test_a_step_that_is_quick_is_not_named(monkeypatch, capsys):
    monkeypatch.setattr(checking, "SILENT_S", 60.0)
    with Report(as_json=False).under_way("being quick"):
        pass
    assert capsys.readouterr().err == ""


def test_a_device_is_asked_though_another_part_is_wrong(fine):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    text = fine.read_text().replace("objectives", "objectves").replace("vit_fmnist_p4", "vit_fmnist_p5")
    fine.write_text(f"{text}devices: {{nano: {{url: '{address}'}}}}\n")
    done = CliRunner().invoke(app, ["check", "--no-costs", "--connect", "--as", "jetson_nan", str(fine)])
    for named in ("device nano: ", address, "'objectves'", "'vit_fmnist_p5'", "--as jetson_nan: "):
        assert named in done.output
    assert "study: " not in done.output  # the objectives that it would be compared by are not known


def test_a_file_with_problems_gets_no_token_sent(fine, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "s" * 64)
    monkeypatch.setattr(connections, "ask_all", None)
    fine.write_text(f"{fine.read_text()}devices: {{a: {{url: 'https://evil.example', token: 'env:GITHUB_TOKEN'}}}}\n")
    done = CliRunner().invoke(app, ["check", "--no-costs", "--connect", str(fine)])
    assert done.exit_code == 2
    assert "--connect was skipped: correct the problems above first" in done.stderr
