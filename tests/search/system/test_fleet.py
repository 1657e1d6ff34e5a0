"""The example of docs/another_device.md on two real agents of different speed: run, resume, look, ship."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import support
from support import PYTHON_PATH
from vitsearch_agent.client.embedded_agent import EmbeddedAgent

pytestmark = pytest.mark.long

PAGE = Path(support.REPOSITORY, "docs", "another_device.md")
SLOWDOWNS = {"nano": 6.0, "pi5": 2.0}
SMALL = (
    "search.trials=1",
    "search.candidates=1",
    "task.fine_tune.images_per_epoch=256",
    "limits.latency_ms_p50@nano.max=1000",
    "limits.accuracy.max_drop=0.5",
    "space.quantization=fp32",
)


def vitsearch(folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    program = [sys.executable, "-m", "support.quick_search", *command]
    done = subprocess.run(program, cwd=folder, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the space file of the page, in which the devices are agents of this machine."""
    folder = tmp_path_factory.mktemp("fleet")
    (text,) = (found for found in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "fleet:" in found)
    agents = []
    try:
        for name, slowdown in SLOWDOWNS.items():
            state = folder / name
            state.mkdir(mode=0o700)
            (state / "config.json").write_text(json.dumps({"emulation": {"slowdown": slowdown}}))
            agents.append(EmbeddedAgent(str(state)).__enter__())
            variable = f"VITSEARCH_{name.upper()}_TOKEN"
            os.environ[variable] = agents[-1].token
            here = f"  {name}: {{url: '{agents[-1].url}', token: 'env:{variable}', accuracy_images: 20}}"
            text = re.sub(rf"^  {name}: .*$", here, text, flags=re.MULTILINE)
        (folder / "two_devices.yaml").write_text(text)
        yield folder
    finally:
        for agent in agents:
            agent.stop()


@pytest.fixture(scope="module")
def searched(folder):
    vitsearch(folder, "run", "two_devices.yaml", *SMALL)
    return folder


def measured(folder: Path) -> Counter[tuple[str, str]]:
    """How often each graph was measured on each device."""
    with closing(sqlite3.connect(folder / "studies" / "two_devices.db")) as database:
        return Counter(database.execute("SELECT device_id, graph_key FROM vs_measurement").fetchall())


def test_every_graph_is_measured_on_both_devices_and_the_slower_one_counts(searched):
    found = json.loads(vitsearch(searched, "front", "two_devices", "--json"))
    assert found["device"] == "fleet"
    assert found["points"]
    for point in found["points"]:
        both, nano, pi5 = (point["values"][f"latency_ms_p50{at}"] for at in ("", "@nano", "@pi5"))
        assert both == max(nano, pi5)  # beside other work the one that is slowed down less may be the slower one
        low, high = point["intervals"]["latency_ms_p50"]
        assert low <= both <= high
    devices = {device for device, _ in measured(searched)}
    assert len(devices) == 2
    graphs = [{graph for device, graph in measured(searched) if device == one} for one in devices]
    assert graphs[0] == graphs[1]


def test_the_same_command_resumes_and_measures_nothing_again(searched):
    before = measured(searched)
    vitsearch(searched, "run", "two_devices.yaml", *SMALL)
    assert measured(searched) == before


def test_the_table_has_a_column_for_each_device(searched):
    lines = vitsearch(searched, "front", "two_devices").splitlines()
    assert any("latency_ms_p50@nano" in line and "latency_ms_p50@pi5" in line for line in lines)
    where = ["--where", "latency_ms_p50@pi5 < 10000", "--sort", "latency_ms_p50@nano"]
    assert "EMULATED: Pareto front of study two_devices on fleet" in vitsearch(searched, "front", "two_devices", *where)
    assert "latency_ms_p50@nano" in vitsearch(searched, "status", "two_devices")


def test_one_device_has_a_front_of_its_own(searched):
    found = json.loads(vitsearch(searched, "front", "two_devices", "--device", "pi5", "--json"))
    assert found["device"] == "pi5"
    assert all("latency_ms_p50@nano" not in point["values"] for point in found["points"])


def test_a_model_is_shown_with_the_measurements_of_both(searched):
    assert "latency_ms_p50@pi5" in vitsearch(searched, "show", "two_devices", "knee")
    shown = json.loads(vitsearch(searched, "show", "two_devices", "knee", "--json"))
    assert {row["device_id"] for row in shown["measurements"]} == {device for device, _ in measured(searched)}


def test_the_report_has_the_metrics_and_the_name_of_each_device(searched):
    vitsearch(searched, "report", "two_devices", "--to", "report.html")
    page = (searched / "report.html").read_text()
    for text in ("latency_ms_p50@nano", "latency_ms_p50@pi5", '"nano@', '"pi5@'):
        assert text in page


def test_a_bundle_is_for_one_device_and_has_its_figures(searched):
    point = json.loads(vitsearch(searched, "front", "two_devices", "--device", "nano", "--json"))["points"][0]
    with pytest.raises(AssertionError, match="a bundle is for one device: add --device nano or --device pi5"):
        vitsearch(searched, "ship", "two_devices", str(point["trial"]), "--allow-emulated")
    command = ["ship", "two_devices", str(point["trial"]), "--device", "nano", "--allow-emulated", "--json"]
    shipped = json.loads(vitsearch(searched, *command))
    assert shipped["folder"].endswith("-nano")
    shown = json.loads(vitsearch(searched, "show", "two_devices", str(point["trial"]), "--json"))
    assert shipped["values"]["latency_ms_p50"] == shown["values"]["latency_ms_p50@nano"]
