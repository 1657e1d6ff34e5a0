"""CPU time of the files of our own table, in turn with the agent's reference models: `own_table.py measure`."""

from __future__ import annotations

import gc
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from own_table_data import MOST_SPREAD
from own_table_lines import Lines, in_child
from own_table_plans import chosen

from vitsearch_agent import runtimes
from vitsearch_agent.measure.child.bursts import Run
from vitsearch_agent.measure.child.timed_loop import Clocks, clock_overhead_ms, gc_disabled, timed_runs
from vitsearch_agent.runtimes import reference_models

SEED = 0
VISITS, BLOCKS, BLOCK_S = 2, 6, 0.008
FAST = 0.1
"""The quantile of single runs that stands for a visit. On a machine that is not quiet a process is preempted every few
milliseconds and finds its caches empty: medians of two visits differed by 8 to 30 %, and by a factor of 2 for some."""
BATCH_OF_FILES = 40


@dataclass(frozen=True)
class Subject:
    """A file to be measured, in a runtime with options."""

    unit: str
    path: Path
    runtime: str
    options: dict[str, Any]


def measure(lines: Lines, seconds: float) -> None:
    """The CPU time of files, until all are measured or the time is up."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        subjects = [subject for subject in subjects_of(lines) if subject.unit not in lines.rows]
        random.Random(len(lines.rows)).shuffle(subjects)
        subjects = list(opening(subjects, lines))  # before OpenVINO has threads in this process
        references = reference_sessions(Path(folder))
        end = time.monotonic() + seconds
        for start in range(0, len(subjects), BATCH_OF_FILES):
            if time.monotonic() > end:
                return
            some = subjects[start : start + BATCH_OF_FILES]
            for unit, visits in visited(some, references).items():
                if chosen().is_completed or agree(visits):
                    lines.add(unit, {"visits": visits, "load": [round(load, 2) for load in os.getloadavg()]})
            drop_measured(lines)


def agree(visits: Sequence[Sequence[float]]) -> bool:
    """Whether visits are near enough to be believed; in a table that is not completed the next call measures others
    again."""
    return all(max(logs) - min(logs) <= 2 * MOST_SPREAD for logs in list(zip(*visits, strict=True))[:2])


def opening(subjects: Sequence[Subject], lines: Lines) -> Iterator[Subject]:
    """The files that open; of the others, which end the process, a line says so. Other precisions were opened when
    they were judged."""
    for subject in subjects:
        if subject.unit.endswith(":openvino fp32"):
            result = in_child(lambda subject=subject: {"opened": session_of(subject)() is None})  # type: ignore[misc]
            if "failed" in result:
                lines.add(subject.unit, result)
                continue
        yield subject


def subjects_of(lines: Lines) -> Iterator[Subject]:
    for row in list(lines.rows.values()):
        if not row["unit"].startswith(("shape:", "late:")):
            continue
        for name, file in row["files"].items():
            if "failed" in file:
                continue
            path = lines.files / file["file"]
            if path.exists():
                yield Subject(f"cost:{row['key']}:{name}", path, file["runtime"], file["options"])
                if name == "openvino fp32":
                    options = file["options"] | {"inference_precision": "bf16"}
                    yield Subject(f"cost:{row['key']}:openvino bf16", path, file["runtime"], options)


def drop_measured(lines: Lines) -> None:
    """Delete the files of which every use is measured."""
    waiting = {subject.path for subject in subjects_of(lines) if subject.unit not in lines.rows}
    for subject in list(subjects_of(lines)):
        if subject.path not in waiting and subject.path.exists():
            shutil.rmtree(subject.path.parent)


def reference_sessions(folder: Path) -> list[Run]:
    """Products and convolutions, in onnxruntime."""
    runtime = runtimes.create("onnxruntime")
    options = runtime.check_options({})
    files = reference_models.write(str(folder))
    return [runtime.load(file, options, 1, 1, {}).run for file in files]


def visited(subjects: Sequence[Subject], references: Sequence[Run]) -> dict[str, list[list[float]]]:
    """By unit, for each visit the logarithms of the model's time over that of products, and of convolutions, and the
    model's time as it was read."""
    opened = {subject.unit: session_of(subject) for subject in subjects}
    visits: dict[str, list[list[float]]] = {subject.unit: [] for subject in subjects}
    draw, order, clocks = random.Random(SEED), [subject.unit for subject in subjects], Clocks()
    overhead_ms = clock_overhead_ms(clocks)

    def block(run: Run) -> list[float]:
        return timed_runs(run, clocks, lambda done, passed_s: done < 2 or passed_s < BLOCK_S).cpu_ms

    with gc_disabled():
        for _ in range(VISITS):
            draw.shuffle(order)
            for unit in order:
                runs: list[list[float]] = [[], [], []]
                for number in range(BLOCKS):
                    runs[number % 2] += block(references[number % 2])
                    runs[2] += block(opened[unit])
                products, convolutions, model = (float(np.quantile(times, FAST)) - overhead_ms for times in runs)
                logs = math.log(model / products), math.log(model / convolutions)
                visits[unit].append([round(value, 5) for value in (*logs, model)])
    opened.clear()
    gc.collect()
    return visits


def session_of(subject: Subject) -> Run:
    runtime = runtimes.create(subject.runtime)
    return runtime.load(str(subject.path), runtime.check_options(subject.options), 1, 1, {}).run
