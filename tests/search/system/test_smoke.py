"""What no change may break, on one small study: a killed run resumes; its model is shown, shipped and verified."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.browser import opened
from support.real_search import APART, PATIENCE_S, RealSearch, write_images

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc")


SPACE = """
study: smoke
task:
  data: {{source: folder, root: "{folder}/images"}}
  base: {{epochs: 8, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, size_mb: minimize}}
limits: {{accuracy: {{max_drop: 0.9}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: 32
  depth_pruning_ratio: [0.0, 0.5]
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: [0.0, 0.75]
  quantization: fp32
  batch: 1
search: {{trials: 1, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/smoke.db"
"""


@dataclass
class Resumed:
    """A study whose first run was killed when it had trained the starting weights of its backbone."""

    search: RealSearch
    rows_before: dict[str, float]
    left_by_the_killed: dict[int, str]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> Iterator[Resumed]:
    folder = tmp_path_factory.mktemp("smoke")
    write_images(folder / "images", APART, side=32)
    search = RealSearch.write(folder, "smoke", SPACE, trials=1)
    first = search.start()
    deadline = time.monotonic() + PATIENCE_S
    while not any(row.startswith("vs_training") for row in search.rows()):
        assert first.poll() is None, search.log()
        assert time.monotonic() < deadline, search.log()
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left, rows = search.left_after_the_end(), search.rows()
    search.finish()
    yield Resumed(search, rows, left)
    search.kill_all()


@pytest.fixture(scope="module")
def search(resumed) -> RealSearch:
    return resumed.search


def test_a_killed_run_leaves_no_process_and_resumes_without_making_a_stage_again(resumed):
    assert resumed.left_by_the_killed == {}
    rows = resumed.search.rows()
    assert {key: rows.get(key) for key in resumed.rows_before} == resumed.rows_before
    assert set(resumed.search.states()) <= {"COMPLETE", "PRUNED"}
    assert len(resumed.search.chosen("COMPLETE")) == 1, "one plan is trained"


@pytest.fixture(scope="module")
def shipped(search) -> Path:
    """The folder of a bundle of the smallest model."""
    printed = search.command("ship", "smoke.db", "--pick", "min size_mb", "--to", "bundle", "--json")
    return search.folder / json.loads(printed)["folder"]


@pytest.fixture(scope="module")
def smallest(search) -> dict[str, Any]:
    point: dict[str, Any] = json.loads(search.command("front", "smoke.db", "--json"))["points"][-1]
    return point


def test_the_front_shows_the_trained_model(smallest):
    assert smallest["values"]["size_mb"] < 0.7, "that of the baseline is 1.22"
    assert smallest["values"]["accuracy"] > 0.5


def test_a_model_has_one_value_on_every_surface(search, smallest, shipped):
    """On the front, alone, beside another, in its bundle and on the page."""
    number = str(smallest["trial"])
    shown = json.loads(search.command("show", "smoke.db", number, "--json"))
    compared = json.loads(search.command("compare", "smoke.db", "baseline", number, "--json"))["second"]
    in_bundle = json.loads((shipped / "measurements.json").read_text())
    in_bundle["values"] |= in_bundle["qualities"]["validation"]["values"]
    in_bundle["intervals"] |= in_bundle["qualities"]["validation"]["intervals"]
    for other in (shown, compared, in_bundle):
        for form in ("values", "intervals"):
            assert other[form] == smallest[form]

    values, intervals = smallest["values"], smallest["intervals"]
    for name, figure in json.loads((shipped / "bundle.json").read_text())["figures"].items():
        assert [figure["low"], figure["value"], figure["high"]] == with_bounds(values[name], intervals.get(name))
    for name, row in figures_of_the_page(search, smallest["trial"]).items():
        exact = with_bounds(values[name], intervals.get(name))
        assert row == [None if number is None else pytest.approx(number, rel=1e-5) for number in exact], name

    card = (shipped / "README.md").read_text()
    for name in ("latency_ms_p50", "cpu_ms_p50", "peak_memory_mb", "load_ms", "size_mb", "accuracy"):
        assert re.search(rf"\b{re.escape(f'{values[name]:#.4g}'.rstrip('0').rstrip('.'))}", card), name


def with_bounds(value: float | None, interval: list[float] | None) -> list[float | None]:
    low, high = interval or (None, None)
    return [low, value, high]


def figures_of_the_page(search: RealSearch, trial: int) -> dict[str, list[float | None]]:
    search.command("report", "smoke.db", "--to", "page.html")
    script = re.search(r'id="data">(.*?)</script>', (search.folder / "page.html").read_text(), re.DOTALL)
    assert script is not None
    trials = json.loads(script[1])["trials"]
    row = trials["number"].index(trial)
    return {
        name: [column[part][row] for part in ("low", "value", "high")] for name, column in trials["metrics"].items()
    }


def test_a_shipped_bundle_is_verified_and_a_changed_one_is_not(search, shipped):
    checks = json.loads(search.command("verify", "bundle.zip", "--no-measure", "--json"))
    assert checks["passed"]
    assert checks["checks"][1]["message"].endswith("every image gets the same class as when shipped")
    model = shipped / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(AssertionError, match=r"model\.onnx was changed"):
        search.command("verify", "bundle", "--no-measure")


def test_the_report_is_drawn_in_a_browser(search, browser):
    search.command("report", "smoke.db", "--to", "report.html")
    with opened(browser, search.folder / "report.html") as (tab, complaints):
        assert tab.evaluate("page.data.trials.length") == len(search.states()) + 1, "the baseline too"
        assert complaints == []
