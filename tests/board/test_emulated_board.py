"""The whole way with an emulated aarch64 board: install, pair, search, evaluate, ship, verify, selftest.

`make test-board` runs this before a release, and nothing else does: it downloads some 170 MB once and takes minutes.
Where no board can be emulated, each test is skipped with the reason. The times of the board are those of no device;
what it computes is compared with this machine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from support import AGENT_HOME, PYTHON_PATH, REPOSITORY
from vitsearch.data.fashion_mnist import MEAN, STD, subset_split
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.selftest.report import SelftestReport
from vitsearch_agent.verify.preprocessing import prepare

BOARD = Path(os.environ.get("VITSEARCH_BOARD", Path(REPOSITORY, ".board")))
CONVERTERS = Path(os.environ.get("VITSEARCH_CONVERTERS", Path(REPOSITORY, ".venv-converters")))
PYZ, STATE, PYTHON = "/root/vitsearch-agent.pyz", "/var/lib/vitsearch", "/opt/vitsearch/venv/bin/python"
IMAGES = 500
START_S = 300.0
SPACE = """
study: board
task:
  data: {{source: builtin:fashion-mnist-14k}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 512, batch_size: 64, lr: auto}}
baseline: {{backbone: efficientvit_fmnist, resolution: 28}}
objectives: {{accuracy: maximize, latency_ms_p50: minimize}}
limits: {{accuracy: {{max_drop: 0.2}}}}
space:
  backbone: [vit_fmnist_p4, efficientvit_fmnist]
  resolution: 28
  ffn_pruning_ratio: [0.0, 0.5]
  quantization: [fp32, int8_ptq]
  quantized_ops: all
  backend: {backends}
  batch: 1
search: {{trials: 1, candidates: 1}}
devices:
  board: {{accuracy_images: {images}, deadline: 1h}}
"""


def tool():
    """`tools/emulated_board.py`, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("emulated_board", Path(REPOSITORY, "tools", "emulated_board.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def ran(command, **settings):
    """Run a command and return what it printed; its exit code is 0, or one of `codes`."""
    codes = settings.pop("codes", (0,))
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **settings)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def board():
    emulated_board = tool()
    try:
        made = emulated_board.make(BOARD)
    except emulated_board.Unavailable as unavailable:
        pytest.skip(f"no emulated board: {unavailable}")
    print(f"\n{BOARD}: {made.describe()}")
    return emulated_board.Board(BOARD.resolve())


@pytest.fixture(scope="module")
def installed(board):
    """The agent on the board, by the commands of INSTALL.md for a Raspberry Pi, from wheels that are there already."""
    ran([sys.executable, Path(REPOSITORY, "tools", "make_agent_pyz.py"), f"{board.root}{PYZ}"])
    section = Path(AGENT_HOME, "INSTALL.md").read_text().split("## Raspberry Pi 4 and 5")[1]
    line, service = section.split("```")[1].strip().splitlines()
    assert service.startswith("sudo /opt/vitsearch/venv/bin/python vitsearch-agent.pyz install"), service
    shutil.rmtree(board.root / "opt" / "vitsearch", ignore_errors=True)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/opt/wheels"}
    ran(board.command(["sh", "-c", line.replace("sudo ", "")], offline))
    return board


@pytest.fixture(scope="module")
def served(installed):
    """The agent as `serve` starts it, which is what INSTALL.md says for a system without systemd."""
    shutil.rmtree(f"{installed.root}{STATE}", ignore_errors=True)
    port_file = Path(f"{installed.root}/root/port.json")
    port_file.unlink(missing_ok=True)
    log = Path(f"{installed.root}/root/agent.log")
    command = [PYTHON, PYZ, "serve", "--state", STATE, "--tls", "--port-file", "/root/port.json"]
    with log.open("w") as stream, subprocess.Popen(installed.command(command), stderr=stream) as process:
        end = time.monotonic() + START_S
        while not port_file.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        assert port_file.exists(), log.read_text()
        try:
            yield json.loads(port_file.read_text())
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("board")


def vitsearch(folder, *command):
    """Run a command of vitsearch with short measurements: the full protocol takes hours on a translated processor."""
    paths = PYTHON_PATH
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment["VITSEARCH_CONVERTERS"] = str(CONVERTERS)
    return ran([sys.executable, "-m", "support.quick_search", *command], cwd=folder, env=environment)


@pytest.fixture(scope="module")
def paired(installed, served, folder):
    """What `vitsearch devices describe` says of the paired board."""
    token = ran(installed.command([PYTHON, PYZ, "token", "--state", STATE]))
    (folder / "token").write_text(token)
    pin = ("--fingerprint", served["fingerprint"], "--token-file", "token")
    vitsearch(folder, "devices", "add", f"https://127.0.0.1:{served['port']}", "board", *pin)
    return json.loads(vitsearch(folder, "devices", "describe", "board"))["device"]


@pytest.fixture(scope="module")
def searched(paired, folder):
    backends = ["onnxruntime", "litert"] if (CONVERTERS / "litert" / "installed.json").exists() else ["onnxruntime"]
    (folder / "board.yaml").write_text(SPACE.format(backends=f"[{', '.join(backends)}]", images=IMAGES))
    vitsearch(folder, "run", "board.yaml", "--plain")
    return json.loads(vitsearch(folder, "front", "board", "--json"))


@pytest.fixture(scope="module")
def models(searched, folder):
    """(runtime, precision) -> the file of the unpruned EfficientViT, which the search has exported."""
    found = {}
    for trial in range(20):
        try:
            shown = json.loads(vitsearch(folder, "show", "board", str(trial), "--json"))
        except AssertionError:
            continue  # there is no such trial, or it is not finished
        knobs, file = shown["knobs"], shown["file"]
        if file and knobs["backbone"] == "efficientvit_fmnist" and not knobs.get("ffn_pruning_ratio"):
            found.setdefault((knobs["backend"], knobs["quantization"]), Path(folder, file["path"]))
    return found


@pytest.fixture(scope="module")
def images(folder):
    settings = {"crop_size": 28, "resolution": 28, "interpolation": "bilinear", "mean": MEAN, "std": STD}
    np.save(folder / "images.npy", prepare(subset_split("validation").images[:IMAGES], settings))
    return str(folder / "images.npy")


@pytest.fixture(scope="module")
def both(served, paired, folder):
    """A client of the board's agent, and one of an agent on this machine."""
    url, token = f"https://127.0.0.1:{served['port']}", (folder / "token").read_text().strip()
    with (
        EmbeddedAgent(str(folder / "here")) as agent,
        agent.client("board") as here,
        DeviceClient(url, token, "board", fingerprint=served["fingerprint"]) as there,
    ):
        yield there, here


def outputs(client, path, images, runtime, folder):
    """The outputs of a model for images, float32 (IMAGES, classes)."""
    result = client.outputs(str(path), images, "none", runtime)
    client.fetch_outputs(result, str(folder / "outputs.npy"))
    return np.load(folder / "outputs.npy")


def test_the_board_is_an_arm_machine(board):
    assert ran(board.command(["uname", "-m"])).strip() == "aarch64"


def test_the_agent_is_installed_as_the_page_says(installed):
    assert "vitsearch-agent " in ran(installed.command([PYTHON, PYZ, "--version"]))


def test_the_paired_board_says_that_it_is_translated(paired):
    assert paired["kind"] == "emulated"
    assert paired["emulation"] == {"method": "translated instructions", "translator": "qemu-user"}
    assert {"asimd", "asimddp"} <= set(paired["fingerprint"]["features"])
    assert paired["fingerprint"]["machine"] == "aarch64"
    available = {runtime["name"] for runtime in paired["runtimes"] if runtime["available"]}
    assert {"onnxruntime", "litert"} <= available


def test_a_search_on_the_board_has_a_front_that_is_marked(searched):
    assert searched["emulated"]
    assert searched["points"]


def test_accuracy_is_evaluated_on_the_board(searched):
    judged = [point["on_device"] for point in searched["points"]]
    assert all(there is not None and there["n"] == IMAGES for there in judged), judged


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_fp32_logits_are_those_of_this_machine(models, both, images, folder, runtime):
    if (runtime, "fp32") not in models:
        pytest.skip(f"no fp32 file for {runtime}: `vitsearch install-converter litert` brings the converter")
    there, here = (outputs(client, models[runtime, "fp32"], images, runtime, folder) for client in both)
    difference = float(np.abs(there - here).max())
    print(f"\n{runtime}: largest difference of fp32 logits {difference:.1e}, largest logit {np.abs(here).max():.1f}")
    assert difference <= 1e-4


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_int8_classes_are_those_of_this_machine(models, both, images, folder, runtime):
    if (runtime, "int8_ptq") not in models:
        pytest.skip(f"no int8 file for {runtime}: `vitsearch install-converter litert` brings the converter")
    there, here = (outputs(client, models[runtime, "int8_ptq"], images, runtime, folder) for client in both)
    same = int((there.argmax(1) == here.argmax(1)).sum())
    print(f"\n{runtime}: int8 classes agree on {same} of {IMAGES}")
    assert same >= 0.98 * IMAGES


def test_a_bundle_is_shipped_from_the_board_and_verified_there(searched, installed, folder):
    shipped = json.loads(vitsearch(folder, "ship", "board", "knee", "--allow-emulated", "--json"))
    shutil.copy(folder / shipped["zip"], installed.root / "root" / "bundle.zip")
    command = [PYTHON, PYZ, "verify", "/root/bundle.zip", "--no-measure", "--json"]
    checked = json.loads(ran(installed.command(command)))
    assert checked["passed"], checked
    assert re.search(r"EMULATED", (folder / shipped["folder"] / "README.md").read_text())


def test_the_selftest_passes_on_the_board(installed):
    ran(installed.command([PYTHON, PYZ, "selftest", "--to", "/root/selftest.json"]), codes=(0, 1))
    report = SelftestReport.from_json(json.loads((installed.root / "root" / "selftest.json").read_text()))
    outcomes = {step.name: (step.outcome, step.message) for step in report.steps}
    print("\n" + "\n".join(f"{name}: {' '.join(outcome)}" for name, outcome in outcomes.items()))
    assert report.device is not None
    assert report.device.kind == "emulated"
    for name in ("runtimes", "environment", "kill and resume"):
        assert outcomes[name][0] == "passed", outcomes[name]
