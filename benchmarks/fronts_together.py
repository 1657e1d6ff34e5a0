"""Fronts of studies, perhaps of several installations, measured again in one run: hypervolume from one reference point.

    python benchmarks/fronts_together.py points FOLDER STUDY... > points.json     once for each installation
    python benchmarks/fronts_together.py measure points.json...

`points` asks the `vitsearch` of the installation in FOLDER for the front of studies with models for onnxruntime.
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
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from vitsearch.core.pareto import hypervolume, loss
from vitsearch_evaluators.base.canonical_json import file_digest
from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.figures.reference_store import ReferenceStore
from vitsearch_evaluators.measure.job_context import JobContext
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.measure_job import measure_job
from vitsearch_evaluators.wire.measurement import Measurement
from vitsearch_evaluators.wire.protocol import SCREEN, BlobRef, JobSpec

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
    asked = parser.parse_args()
    if asked.command == "points":
        json.dump([one for study in asked.studies for one in points(asked.folder, study)], sys.stdout)
    else:
        measure([one for file in asked.files for one in json.loads(file.read_text())])
    return 0


def points(folder: Path, study: str) -> list[dict[str, Any]]:
    """The baseline and the front of a study, with the files of both."""
    command = [str(folder.absolute() / ".venv/bin/vitsearch"), "front", study, "--json"]
    front = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
    database = sqlite3.connect(folder / "studies" / f"{study}.db")
    return [_point(study, folder, database, one) for one in (front["baseline"], *front["points"])]


def _point(study: str, folder: Path, database: sqlite3.Connection, shown: dict[str, Any]) -> dict[str, Any]:
    """The tables are read, because older versions name no file."""
    if shown["trial"] is None:
        row = database.execute("SELECT value FROM vs_study_attribute WHERE name = 'baseline'")
    else:
        row = database.execute("SELECT record FROM vs_trial WHERE number = ?", (shown["trial"],))
    key = json.loads(row.fetchone()[0])["keys"]["artifact_key"]
    query = "SELECT sha256, detail FROM vs_artifact WHERE artifact_key = ?"
    sha256, detail = database.execute(query, (key,)).fetchone()
    (path,) = (folder / "studies" / f"{study}.files" / "artifacts" / sha256[:2]).glob(f"{sha256[2:]}*.onnx")
    return {
        "study": study,
        "trial": shown["trial"],
        "accuracy": shown["values"]["accuracy"],
        "path": str(path.absolute()),
        "options": json.loads(detail).get("options", {}),
    }


def measure(found: list[dict[str, Any]]) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # as the embedded agent does
    store = ReferenceStore()
    measured: dict[str, list[Measurement]] = defaultdict(list)
    for number in range(ROUNDS):
        for path, options in {one["path"]: one["options"] for one in found}.items():
            measured[path].append(_measured(Path(path), options, store))
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    ms = {path: statistics.median(_cpu_ms(one, measured) for one in each) for path, each in measured.items()}
    baseline_ms = statistics.median(ms[one["path"]] for one in found if one["trial"] is None)
    corner = loss(OBJECTIVES, {"accuracy": LEAST_ACCURACY, "cpu_ms_p50": MARGIN * baseline_ms})
    assert corner is not None
    print(f"baseline {baseline_ms:.3f} ms\n| study | points | hypervolume |\n|---|---|---|")
    for study in sorted({one["study"] for one in found}):
        here = [one for one in found if one["study"] == study and one["trial"] is not None]
        values = [{"accuracy": one["accuracy"], "cpu_ms_p50": ms[one["path"]]} for one in here]
        losses = [point for one in values if (point := loss(OBJECTIVES, one)) is not None]
        print(f"| {study} | {len(here)} | {hypervolume(losses, corner):.4f} |")


def _measured(path: Path, options: dict[str, Any], store: ReferenceStore) -> Measurement:
    model = BlobRef("model.onnx", file_digest(str(path)), path.stat().st_size)
    spec = JobSpec("measure", (model,), "onnxruntime", options, SCREEN._replace(batch=1))
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(path, Path(folder) / "model.onnx")
        context = JobContext("0" * 64, "local", "0" * 64, 1, 0.0)
        return measure_job(spec, context, JobFolder(folder, StopSignal()), references=store)


def _cpu_ms(one: Measurement, measured: dict[str, list[Measurement]]) -> float:
    """By the reference times that are known at the end."""
    last = list(measured.values())[-1][-1].paired
    if one.paired is not None and last is not None:
        one = one._replace(paired=one.paired._replace(times=last.times))
    found = one.shown_cpu_ms
    assert found is not None
    return found.p50


if __name__ == "__main__":
    sys.exit(main())
