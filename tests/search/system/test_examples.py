"""The scripts and packages of examples/ do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from support import PYTHON_PATH, REPOSITORY
from vitsearch import backbones
from vitsearch.space import check, load

EXAMPLES = Path(REPOSITORY, "examples")


def run(folder: Path, *command: str | Path, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`. `packages` has packages that are installed there."""
    places = [*([str(packages)] if packages else []), PYTHON_PATH]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
    )


def install(package: Path, into: Path) -> Path:
    """What pip does with a package of plain modules: its files, and the entry points of its pyproject.toml."""
    shutil.copytree(package, into)
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    information = into / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return into


def run_its_tests(package: Path, folder: Path) -> str:
    installed = install(package, folder / package.name)
    (installed / "pytest.ini").write_text("[pytest]\n")
    done = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "tests", packages=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_quickly(folder: Path, script: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of examples/ with short measurements."""
    return run(folder, "-m", "support.quick_script", EXAMPLES / script, *arguments)


SMALLEST = (
    "search.trials=1",
    "search.candidates=1",
    "space.backbone=vit_fmnist_p4",
    "space.resolution=28",
    "space.quantization=[fp32, int8_ptq]",
)
SMALLEST_QUICKSTART = (*SMALLEST, "space.backend=onnxruntime", "task.fine_tune.images_per_epoch=256")


def test_the_space_file_of_the_examples_is_valid():
    assert check(load(EXAMPLES / "clothes.yaml", []), backbones.supports) == []


@pytest.mark.long
def test_the_quickstart_prints_its_front_with_intervals(tmp_path):
    done = run_quickly(tmp_path, "quickstart.py", *SMALLEST_QUICKSTART)
    assert done.returncode == 0, done.stderr
    assert "1 plan trained" in done.stdout
    assert re.search(r"^  accuracy 0\.\d+ \(0\.\d+ to 0\.\d+\)$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.long
def test_a_folder_is_searched_once_its_problems_are_gone(tmp_path):
    images = tmp_path / "clothes"
    assert run(tmp_path, Path(REPOSITORY, "tools", "make_example_folder.py"), images).returncode == 0
    short = (*SMALLEST, "task.base.epochs=1", "task.fine_tune.rungs=[0,1]")

    refused = run_quickly(tmp_path, "own_folder.py", str(images), *short)
    assert refused.returncode == 1
    for problem in ("no images in 'Hat'", "cut short.jpg", "page.png: not an image"):
        assert problem in refused.stderr

    (images / "Hat").rmdir()
    for name in ("cut short.jpg", "page.png"):
        (images / "Ankle boot" / name).unlink()
    done = run_quickly(tmp_path, "own_folder.py", str(images), *short)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  Trouser: \d+ of 15 found$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.long
def test_two_boards_share_the_measurements(tmp_path):
    done = run_quickly(tmp_path, "two_boards.py", *SMALLEST_QUICKSTART)
    assert done.returncode == 0, done.stderr
    shares = [int(share) for share in re.findall(r"^nano-\d has measured (\d+) times$", done.stdout, re.MULTILINE)]
    assert len(shares) == 2
    assert min(shares) > 0
    assert re.search(r"^trial \d+ vit_fmnist_p4 0\.\d+ ", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.long
def test_a_model_is_shipped_verified_and_run(unpruned):
    """Its figures are not compared: they depend on what else runs on this machine."""
    done = run_quickly(unpruned, "ship_and_verify.py", "unpruned", "knee")
    assert done.returncode in (0, 1), done.stderr
    assert re.search(
        r"^passed +accuracy .* every image gets the same class as when shipped$", done.stdout, re.MULTILINE
    )
    assert re.search(r"^images/0.png\t\w", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.long
def test_an_onnx_file_is_exported_searched_without_a_training_shipped_and_verified(tmp_path):
    made = run(tmp_path, EXAMPLES / "onnx_file" / "train_and_export.py", "60")
    assert made.returncode == 0, made.stderr
    space, search = EXAMPLES / "onnx_file" / "space.yaml", ("-m", "support.quick_search")
    done = run(tmp_path, *search, "run", space)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 plans trained" in done.stdout
    front = run(tmp_path, "-m", "vitsearch", "front", "onnx_file", "--json")
    assert any(point["shares"].get("int8", 0.0) > 0.5 for point in json.loads(front.stdout)["points"])
    assert run(tmp_path, *search, "ship", "onnx_file", "knee", "--to", "bundle").returncode == 0
    verified = run(tmp_path, "-m", "vitsearch", "verify", "bundle")
    assert "every image gets the same class as when shipped" in verified.stdout, verified.stdout + verified.stderr


@pytest.mark.long
def test_the_family_passes_its_own_conformance_test(tmp_path):
    assert " passed" in run_its_tests(EXAMPLES / "family", tmp_path)


@pytest.mark.long
def test_the_family_can_be_searched_once_it_is_installed(tmp_path):
    installed = install(EXAMPLES / "family", tmp_path / "family")
    done = run(tmp_path, "-m", "vitsearch", "check", installed / "relpos.yaml", "--no-costs", packages=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "relpos.yaml: fine. 6 plans" in done.stdout


QUICK_NETWORK = (
    "search.trials=1",
    "search.candidates=1",
    "task.base.epochs=1",
    "task.base.images_per_epoch=640",
    "task.fine_tune.images_per_epoch=256",
    "space.ffn_pruning_ratio=[0.5]",
    "space.depth_pruning_ratio=[0]",
    "space.quantization=[fp32]",
    "space.backend=[onnxruntime, openvino]",
    "limits={}",
)


def run_network(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Search the network of examples/own_model, copied into the folder, with short measurements."""
    command = Path(REPOSITORY, "search", "vitsearch", "__main__.py")
    return run_quickly(folder, command, "run", "own_model/space.yaml", *QUICK_NETWORK, *overrides)


@pytest.mark.long
def test_a_network_of_ones_own_is_searched_and_changed_code_reuses_nothing(tmp_path):
    shutil.copytree(EXAMPLES / "own_model", tmp_path / "own_model", ignore=shutil.ignore_patterns("__pycache__"))
    done = run_network(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    before = keys_of_trials(tmp_path)
    assert all(before.values())

    code = tmp_path / "own_model" / "haarnet.py"
    code.write_text(code.read_text().replace("functional.silu", "functional.gelu"))
    refused = run_network(tmp_path)
    assert refused.returncode == 2
    assert "the code or file of 'haarnet' has changed since the study began" in refused.stderr

    other = run_network(tmp_path, "study=changed", "storage=sqlite:///studies/own_model.db")
    assert other.returncode == 0, other.stdout + other.stderr
    after = keys_of_trials(tmp_path, "changed")
    assert all(after.values())
    assert not any(before[name] & after[name] for name in before)


def keys_of_trials(folder: Path, study: str = "own_model") -> dict[str, set[str]]:
    """The keys under which the results of a study's finished trials are stored."""
    query = "select record from vs_trial join vs_study on vs_study.id = study where name = ? and record is not null"
    with closing(sqlite3.connect(folder / "studies" / "own_model.db")) as database:
        records = [json.loads(record) for (record,) in database.execute(query, [study])]
    stored = [record["keys"] for record in records if record.get("keys")]
    names = "weights_key", "graph_key", "artifact_key"
    return {name: {keys[name] for keys in stored if keys[name] is not None} for name in names}


@pytest.mark.long
def test_the_task_passes_its_own_conformance_test(tmp_path):
    folder = shutil.copytree(EXAMPLES / "task", tmp_path / "task", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", ".", packages=folder)
    assert done.returncode == 0, done.stdout + done.stderr


QUICK_TASK = (
    "search.trials=1",
    "search.candidates=1",
    "task.base.epochs=1",
    "task.base.images_per_epoch=640",
    "task.fine_tune.images_per_epoch=256",
    "space.backbone=[efficientvit_fmnist]",
    "baseline={backbone: efficientvit_fmnist, resolution: 28}",
    "space.ffn_pruning_ratio=[0.0, 0.5]",
    "space.quantization=[fp32]",
    "space.backend=[onnxruntime]",
    "limits={}",
)


@pytest.mark.long
def test_a_task_of_ones_own_is_searched_shipped_and_read_without_its_code(tmp_path):
    shutil.copytree(EXAMPLES / "task", tmp_path / "task", ignore=shutil.ignore_patterns("__pycache__"))
    command = Path(REPOSITORY, "search", "vitsearch", "__main__.py")
    done = run_quickly(tmp_path, command, "run", "task/space.yaml", *QUICK_TASK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(tmp_path, "-m", "vitsearch", "ship", "costs", "knee", "--to", "bundle").returncode == 0
    verified = run(tmp_path, "-m", "vitsearch", "verify", "bundle")
    assert "the metrics of the task costs are not computed here" in verified.stdout, verified.stdout + verified.stderr
    (tmp_path / "task" / "costs.py").unlink()
    for words in (("show", "costs", "baseline"), ("show", "costs", "0"), ("status", "costs"), ("explain", "costs")):
        read = run(tmp_path, "-m", "vitsearch", *words)
        assert read.returncode == 0, f"{words}: {read.stdout}{read.stderr}"
    front = run(tmp_path, "-m", "vitsearch", "front", "costs", "--json")
    assert all(point["values"]["mean_cost"] < 0.5 for point in json.loads(front.stdout)["points"])


@pytest.mark.long
def test_an_encoder_is_searched_shipped_and_verified(tmp_path):
    command = Path(REPOSITORY, "search", "vitsearch", "__main__.py")
    changes = ["task.base.epochs=1", "task.base.images_per_epoch=640", "task.fine_tune.images_per_epoch=256"]
    changes += ["space.backbone=[vit_fmnist_p4, efficientvit_fmnist]", "search.trials=1", "search.candidates=1"]
    changes += ["space.resolution=28", "space.quantization=[fp32]", "space.backend=[onnxruntime]", "limits={}"]
    done = run_quickly(tmp_path, command, "run", Path(REPOSITORY, "spaces", "embedding.yaml"), *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    paired = run(tmp_path, "-m", "vitsearch", "compare", "embedding", "baseline", "0", "--paired")
    assert "cosine on the same 2,000 images" in paired.stdout, paired.stdout + paired.stderr
    assert run(tmp_path, "-m", "vitsearch", "ship", "embedding", "baseline", "--to", "bundle").returncode == 0
    verified = run(tmp_path, "-m", "vitsearch", "verify", "bundle", "--no-measure")
    assert "every image gets the output that it was shipped with" in verified.stdout, verified.stdout + verified.stderr
    pictures = [str(tmp_path / "bundle" / "images" / f"{number}.png") for number in range(2)]
    likeness = run(tmp_path / "bundle", "example.py", *pictures)
    assert -1.0 <= float(likeness.stdout.split("\t")[-1]) <= 1.0


@pytest.mark.long
def test_the_runtime_passes_its_own_conformance_test_and_an_agent_measures_with_it(tmp_path):
    assert " passed" in run_its_tests(EXAMPLES / "runtime", tmp_path)


QUICK_DETECTION = (
    "search.trials=1",
    "search.candidates=1",
    "task.base.epochs=2",
    "task.base.images_per_epoch=1600",
    "task.fine_tune.images_per_epoch=640",
    "space.ffn_pruning_ratio=[0.5]",
    "space.quantization=[int8_ptq]",
    "limits={}",
)


@pytest.mark.long
def test_a_detector_is_searched_shipped_and_verified(tmp_path):
    shutil.copytree(EXAMPLES / "detection", tmp_path / "detection", ignore=shutil.ignore_patterns("__pycache__"))
    command = Path(REPOSITORY, "search", "vitsearch", "__main__.py")
    done = run_quickly(tmp_path, command, "run", "detection/space.yaml", *QUICK_DETECTION)
    assert done.returncode == 0, done.stdout + done.stderr
    front = run(tmp_path, "-m", "vitsearch", "front", "detection", "--json")
    points = json.loads(front.stdout)["points"]
    assert all(0.0 < point["values"]["mean_average_precision"] < 1.0 for point in points)
    quantized = [point["shares"]["int8"] for point in points if point["shares"].get("int8")]
    assert quantized
    assert max(quantized) < 1.0  # the decoder stays in floats
    assert run(tmp_path, "-m", "vitsearch", "ship", "detection", "knee", "--to", "bundle").returncode == 0
    verified = run(tmp_path, "-m", "vitsearch", "verify", "bundle")
    assert "the metrics of the task detection are not computed here" in verified.stdout, verified.stdout
