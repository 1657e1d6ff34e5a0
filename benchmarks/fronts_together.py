"""Fronts of studies, perhaps of several installations, measured again in one run: hypervolume from one reference point.

    python benchmarks/fronts_together.py points FOLDER STUDY... > points.json     once for each installation
    python benchmarks/fronts_together.py measure points.json...

`points` asks the `vitsearch` of the installation in FOLDER for the front of studies for onnxruntime and OpenVINO.
`measure` measures every file by the screening protocol, all of them in turn, and then all of them again.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from measured_file import measure_file

from vitsearch.core.pareto import hypervolume, loss
from vitsearch.core.plan import Deployment
from vitsearch.export.device_jobs import DeviceJob, device_job
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.wire.measure_protocol import SCREEN
from vitsearch_agent.wire.measurement import Measurement

OBJECTIVES = ("accuracy", "cpu_ms_p50")
LEAST_ACCURACY, MARGIN = 0.8755, 1.1
"""The reference point: the limit of the quickstart, and this many times the CPU time of the baseline."""
ROUNDS = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("points")
    collecting.add_argument("folder", type=Path)
    collecting.add_argument("studies", nargs="+")
    measuring = commands.add_parser("measure")
    measuring.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "points":
        json.dump([point for study in options.studies for point in points(options.folder, study)], sys.stdout)
    else:
        measure([point for file in options.files for point in json.loads(file.read_text())])
    return 0


def points(folder: Path, study: str) -> list[dict[str, Any]]:
    """The baseline and the front of a study, with the files of both."""
    command = [str(folder.absolute() / ".venv/bin/vitsearch"), "front", study, "--json"]
    front = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
    database = sqlite3.connect(folder / "studies" / f"{study}.db")
    return [_point(study, folder, database, row) for row in (front["baseline"], *front["points"])]


def _point(study: str, folder: Path, database: sqlite3.Connection, shown: dict[str, Any]) -> dict[str, Any]:
    """The tables are read, because older versions name no file."""
    if shown["trial"] is None:
        row = database.execute("SELECT value FROM vs_study_attribute WHERE name = 'baseline'")
    else:
        row = database.execute("SELECT record FROM vs_trial WHERE number = ?", (shown["trial"],))
    key = json.loads(row.fetchone()[0])["keys"]["artifact_key"]
    (sha256,) = database.execute("SELECT sha256 FROM vs_artifact WHERE artifact_key = ?", (key,)).fetchone()
    files = (folder / "studies" / f"{study}.files" / "artifacts" / sha256[:2]).glob(f"{sha256[2:]}*")
    (path,) = (file for file in files if file.suffix in (".onnx", ".xml"))
    job = device_job(Deployment(**shown["plan"]["deployments"][0]))
    return {
        "study": study,
        "trial": shown["trial"],
        "accuracy": shown["values"]["accuracy"],
        "path": str(path.absolute()),
        "runtime": job.runtime,
        "options": job.options,
    }


def measure(rows: list[dict[str, Any]]) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # as the embedded agent does
    store, protocol = ReferenceStore(), SCREEN._replace(batch=1)
    measured: dict[str, list[Measurement]] = defaultdict(list)
    for number in range(ROUNDS):
        for path, row in {row["path"]: row for row in rows}.items():
            measured[path].append(measure_file(Path(path), DeviceJob(row["runtime"], row["options"]), protocol, store))
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    ms = {
        path: statistics.median(_cpu_ms(measurement, measured) for measurement in each)
        for path, each in measured.items()
    }
    baseline_ms = statistics.median(ms[row["path"]] for row in rows if row["trial"] is None)
    corner = loss(OBJECTIVES, {"accuracy": LEAST_ACCURACY, "cpu_ms_p50": MARGIN * baseline_ms})
    assert corner is not None
    print(f"baseline {baseline_ms:.3f} ms\n| study | points | hypervolume |\n|---|---|---|")
    for study in sorted({row["study"] for row in rows}):
        here = [row for row in rows if row["study"] == study and row["trial"] is not None]
        values = [{"accuracy": row["accuracy"], "cpu_ms_p50": ms[row["path"]]} for row in here]
        losses = [point for metrics in values if (point := loss(OBJECTIVES, metrics)) is not None]
        print(f"| {study} | {len(here)} | {hypervolume(losses, corner):.4f} |")


def _cpu_ms(measurement: Measurement, measured: dict[str, list[Measurement]]) -> float:
    """By the reference times that are known at the end."""
    last = list(measured.values())[-1][-1].paired
    if measurement.paired is not None and last is not None:
        measurement = measurement._replace(paired=measurement.paired._replace(times=last.times))
    cpu_ms = measurement.shown_cpu_ms
    assert cpu_ms is not None
    return cpu_ms.p50


if __name__ == "__main__":
    sys.exit(main())
