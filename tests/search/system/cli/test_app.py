"""The command line as a person meets it: messages, exit codes, JSON, and how soon help answers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from support import PYTHON_PATH, REPOSITORY, SPACE_FILES
from vitsearch.cli.app import main
from vitsearch.core import precisions
from vitsearch.core.targets import TARGETS
from vitsearch.search.driver import SearchEnd
from vitsearch.search.observers.observe import Observing
from vitsearch.space import load
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study
from vitsearch.workers import backbone_check
from vitsearch_agent.base.python import SAFE_PATH

SMALL = Path(SPACE_FILES, "small.yaml")
HEAVY = ("torch", "ray", "optuna", "sqlalchemy", "timm", "numpy", "pydantic", "plotly", "onnxruntime")


def vitsearch_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, where that is the subject; it costs seconds of imports."""
    command = [sys.executable, "-m", "vitsearch", *arguments]
    environment = {"PYTHONPATH": PYTHON_PATH, "PATH": "", "COLUMNS": "200", "HOME": os.environ["HOME"]}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)


Done = namedtuple("Done", "returncode stdout stderr")


@pytest.fixture
def vitsearch(monkeypatch, capsys, tmp_path) -> Callable[..., Done]:
    """Run the command here, in a folder and with a new home: vitsearch("front", "nothing", cwd=folder)."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: str, cwd: Path | str = REPOSITORY) -> Done:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["vitsearch", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code or 0, *capsys.readouterr())

    return run


def test_help_loads_few_modules():
    """Its time is that of its imports, and their number is the same on a busy machine: 152 of Python's and our own."""
    code = (
        "import sys; before = len(sys.modules)\n"
        "import atexit; atexit.register(lambda: print(len(sys.modules) - before, file=sys.stderr))\n"
        "from vitsearch.cli.app import main; sys.argv = ['vitsearch', '--help']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": PYTHON_PATH})
    assert "capabilities" in done.stdout
    assert int(done.stderr) <= 175


def test_the_command_line_loads_nothing_heavy():
    code = f"import vitsearch.cli.app, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": PYTHON_PATH})
    assert done.stdout.strip() == "[]"


def test_help_names_every_command():
    shown = vitsearch_process("--help").stdout
    commands = ("run", "check", "status", "front", "show", "compare", "explain", "plan", "capabilities", "doctor")
    commands += ("schema", "devices", "studies", "report", "serve", "dashboard")
    assert all(command in shown for command in commands)


def test_what_a_command_asks_of_its_processes_ends_with_it(vitsearch, monkeypatch):
    monkeypatch.delenv(SAFE_PATH, raising=False)
    assert vitsearch("--version").returncode == 0
    assert SAFE_PATH not in os.environ


@pytest.mark.long
def test_a_backbone_is_tried(vitsearch, monkeypatch):
    runtime = replace(TARGETS["onnxruntime"], precisions=("fp32", "int8_ptq"))
    for module in (precisions, backbone_check):
        monkeypatch.setattr(module, "TARGETS", {"onnxruntime": runtime})
    asked = ("capabilities", "test_vit4", "--try", "--resolution", "32", "--backend", "onnxruntime")
    done = vitsearch(*asked)
    assert done.returncode == 0
    assert "test_vit4 (vit) at 32 pixels: 1.0 million parameters" in done.stdout
    assert [line.split()[:3] for line in done.stdout.splitlines() if "onnxruntime" in line] == [
        ["fp32", "onnxruntime", "works"],
        ["int8_ptq", "onnxruntime", "works"],
    ]
    (found,) = json.loads(vitsearch(*asked, "--json").stdout)
    assert [file["precision"] for file in found["files"]] == ["fp32", "int8_ptq"]


def test_a_backbone_that_does_not_work_has_exit_code_1(vitsearch):
    done = vitsearch("capabilities", "vit_huge_patch14_224", "--try")
    assert done.returncode == 1
    assert "does not work: vit_huge_patch14_224 cannot be exported" in done.stdout
    assert json.loads(vitsearch("capabilities", "vit_huge_patch14_224", "--try", "--json").stdout)[0]["works"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test_vt4", "--try"), "did you mean 'test_vit4'"),
        (("test_vit4", "--try", "--resolution", "33"), "not a multiple of the patch size 16"),
        (("--try",), "--try needs the name of a backbone"),
        (("test_vit4", "--json"), "add --try"),
    ],
)
def test_a_wrong_request_to_try_is_refused(vitsearch, arguments, message):
    done = vitsearch("capabilities", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_plan_written_by_hand_is_judged(vitsearch, tmp_path, golden):
    path, value = tmp_path / "plan.json", golden("plan")
    path.write_text(json.dumps(value))
    assert "fine. vit_fmnist_p4@28 heads-33% ffn-50% global fp32" in vitsearch("plan", str(path)).stdout
    path.write_text(json.dumps(value | {"resolution": 30, "window_size": 7}))
    done = vitsearch("plan", str(path))
    assert done.returncode == 2
    assert "30 pixels are not a multiple of the patch size 4" in done.stderr
    assert "has no windows" in done.stderr


def test_a_plan_in_the_words_of_a_space_file_is_filled_in(vitsearch, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("backbone: vit_fmnist_p4\nhead_pruning_ratio: 0.33\n")
    assert "filled in: weights builtin, resolution 28, " in vitsearch("plan", str(path)).stdout
    done = vitsearch("plan", str(path), "--space", "spaces/quickstart.yaml", "--json")
    assert json.loads(done.stdout)["compression"]["width_multiple"] == 16


def test_a_run_names_the_values_that_an_override_made_unusable(vitsearch, monkeypatch):
    ran = []
    monkeypatch.setattr("vitsearch.api.run", lambda space, **_: ran.append(space) or SearchEnd("done", True))
    done = vitsearch("run", "spaces/quickstart.yaml", "space.backbone=efficientvit_fmnist", "--plain")
    assert [choice.name for choice in ran[0].space.backbone] == ["efficientvit_fmnist"]
    assert "warning: line 40: space.token_pruning_ratio[1]: no backbone of the file supports 0.3" in done.stderr


def test_a_run_is_told_what_it_reports_to(vitsearch, monkeypatch):
    asked = []
    monkeypatch.setattr("vitsearch.api.run", lambda space, **more: asked.append(more) or SearchEnd("done", True))
    vitsearch("run", str(SMALL), "--plain")
    vitsearch("run", str(SMALL), "--plain", "--log-file", "x.jsonl", "--metrics", "9464", "--mlflow", "http://far")
    vitsearch("run", str(SMALL), "--plain", "--observer", "mine=there")
    assert [options["observing"] for options in asked] == [
        Observing(),
        Observing(Path("x.jsonl"), {"prometheus": "9464", "mlflow": "http://far"}),
        Observing(observers={"mine": "there"}),
    ]


def test_check_warns_and_is_fine(vitsearch):
    done = vitsearch("check", "--no-costs", "spaces/quickstart.yaml", "space.backbone=efficientvit_fmnist", "--json")
    assert done.returncode == 0, done.stderr
    warnings = json.loads(done.stdout)["warnings"]
    assert any("no backbone of the file supports 0.3" in one for one in warnings)
    said = [line for line in done.stderr.splitlines() if not line.endswith(" ...")]  # what is under way
    assert said == [f"warning: {one}" for one in warnings]


@pytest.mark.long
def test_check_accepts_the_shipped_space():
    done = vitsearch_process("check", "--no-costs", "spaces/quickstart.yaml")
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout


def test_check_notes_a_device_that_is_not_known_here(vitsearch, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(SMALL.read_text() + "\ndevices: [nano]\n")
    told = "device 'nano' is not known here; add it: vitsearch devices add URL nano"
    done = vitsearch("check", "--no-costs", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"A run from this machine would end at once: {told}" in done.stdout
    assert json.loads(vitsearch("check", "--no-costs", str(file), "--json", cwd=tmp_path).stdout)["notes"] == [told]


def test_check_tells_what_the_data_takes(vitsearch, tmp_path):
    assert (
        "data: 12,000 images, stored as 28x28x1: 9.4 MB"
        in vitsearch("check", "--no-costs", "spaces/quickstart.yaml").stdout
    )
    told = json.loads(vitsearch("check", "--no-costs", "spaces/quickstart.yaml", "--json").stdout)["data"]
    assert told["images"] == 12_000
    assert told["bytes"] == 12_000 * 28 * 28


def test_check_tells_the_defects_of_a_folder(vitsearch, tmp_path):
    for name in ("bolt", "wing nut", "washer"):
        (tmp_path / name).mkdir()
    for name in ("bolt", "wing nut"):
        for level in (0, 255):
            Image.new("L", (8, 8), level).save(tmp_path / name / f"{level}.png")
    (tmp_path / "bolt" / "page.png").write_bytes(b"<html>")
    data = ("task.data.source=folder", f"task.data.root={tmp_path}")
    done = vitsearch("check", "--no-costs", "spaces/quickstart.yaml", *data)
    assert done.returncode == 2
    assert "no images in 'washer'" in done.stderr
    assert "page.png: not an image" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "washer").rmdir()
    (tmp_path / "bolt" / "page.png").unlink()
    done = vitsearch("check", "--no-costs", "spaces/quickstart.yaml", *data)
    assert "data: 4 images, stored as 28x28x1: 3.1 kB on disk" in done.stdout, done.stderr


def test_check_reports_all_problems_with_exit_2_and_no_traceback(vitsearch, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(SMALL.read_text().replace("trials: 14", "trails: 14").replace("lr: 1e-4", "lr: fast"))
    done = vitsearch("check", "--no-costs", str(wrong))
    assert done.returncode == 2
    assert "did you mean 'trials'" in done.stderr
    assert "task.fine_tune.lr" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("vit_fmnist_p4  ", "vit_fmnist_p5  "), "vit_fmnist_p4"),
        (("resolution: [24, 28]", "resolution: [25, 28]"), "not a multiple of the patch size 4"),
    ],
)
def test_check_knows_what_backbones_cannot_do(vitsearch, tmp_path, change, message):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(SMALL.read_text().replace(*change))
    done = vitsearch("check", "--no-costs", str(wrong))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_override_replaces_a_value(vitsearch):
    done = vitsearch("check", "--no-costs", "spaces/quickstart.yaml", "search.trials=3", "--json")
    assert json.loads(done.stdout)["space"]["search"]["trials"] == 3


def test_a_study_that_does_not_exist_is_one_message(vitsearch, tmp_path):
    done = vitsearch("front", "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert "no study 'nothing'" in done.stderr
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_front_of_a_study_without_a_model_has_exit_code_1(vitsearch, tmp_path, options):
    space = load(SMALL, [f"storage=sqlite:///{tmp_path / 'small.db'}"]).space
    Ledger.open(space.storage).close()
    Study.open(space).close()
    done = vitsearch("front", str(tmp_path / "small.db"), *options)
    assert done.returncode == 1
    assert ('"points": []' if options else "has no confirmed model within its limits yet") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("front", "--where", "acuracy > 1"),
            "no metric or knob is called 'acuracy'; did you mean 'accuracy'? Known: ",
        ),
        (("front", "--where", "accuracy >"), "'accuracy >': a name, a number or a word is expected at the end"),
        (("front", "--sort", "nothing"), "no metric or knob is called 'nothing'; known: "),
        (("show", "3"), "study 'small' has no finished trial 3; no trial is finished yet"),
        (("compare", "baseline", "3"), "study 'small' has not measured its baseline yet"),
    ],
)
def test_what_cannot_be_shown_is_one_message(vitsearch, tmp_path, arguments, message):
    space = load(SMALL, [f"storage=sqlite:///{tmp_path / 'small.db'}"]).space
    Ledger.open(space.storage).close()
    Study.open(space).close()
    command, *more = arguments
    done = vitsearch(command, str(tmp_path / "small.db"), *more)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_study_is_deleted_only_after_a_yes(vitsearch, tmp_path, monkeypatch):
    space = load(SMALL, [f"storage=sqlite:///{tmp_path / 'small.db'}"]).space
    Ledger.open(space.storage).close()
    Study.open(space).close()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    done = vitsearch("studies", "delete", str(tmp_path / "small.db"))
    assert done.returncode == 1
    assert "Study small with 0 trials: " in done.stderr
    assert "on disk are deleted and cannot be restored." in done.stderr
    assert (tmp_path / "small.db").exists()
    done = vitsearch("studies", "delete", str(tmp_path / "small.db"), "--yes")
    assert done.stdout == "Study small was deleted.\n"
    assert not (tmp_path / "small.db").exists()


def test_without_studies_the_list_says_how_to_start_one(vitsearch, tmp_path):
    (tmp_path / "studies").mkdir()
    done = vitsearch("studies", cwd=tmp_path)
    assert done.stdout == "No study in studies; start one with 'vitsearch run SPACE'.\n"


@pytest.mark.parametrize("storage", ["/proc/none/x.db", "{file}/x.db"])
def test_a_run_whose_folder_cannot_be_written_is_one_message(vitsearch, tmp_path, storage):
    (tmp_path / "file").write_text("")
    storage = storage.format(file=tmp_path / "file")
    done = vitsearch("run", str(SMALL), f"storage=sqlite:///{storage}", "--plain", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{Path(storage).with_suffix('')}." in done.stderr
    assert " cannot be written: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_disk_that_is_full_is_one_message(vitsearch, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "small.db")

    monkeypatch.setattr("vitsearch.api.judged_space", full)
    done = vitsearch("run", str(SMALL))
    assert done.returncode == 1
    assert done.stderr == "No space left on device: small.db; make room and run the same command again\n"


def test_schema_is_json_schema(vitsearch):
    assert "$schema" in json.loads(vitsearch("schema").stdout)


def test_an_unknown_command_is_told_what_exists():
    done = vitsearch_process("runn")
    assert done.returncode == 2
    assert "No such command 'runn'" in done.stderr
