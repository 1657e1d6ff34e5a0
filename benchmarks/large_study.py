"""Measure how long a large study takes to open, resume and show: CPU-seconds of a fresh process for each step.

    python benchmarks/large_study.py --trials 5000

Makes a study with no-op stages, repeats its trials with other parameters, keys and measurements until there are enough,
and reads it again. The results are in `docs/benchmarks/driver_cost.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from driver_cost import space_for, vitsearch
from optuna.trial import TrialState

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.record import Record
from vitsearch.search.watch.time_estimate import Remaining
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.front import read_front
from vitsearch.study.study import Study

SEED_TRIALS = 10
CONFIRMED = 0.2
"""Share of the trials that were trained; the others were put aside after their screening measurement."""
KNOBS = ("head_pruning_ratio", "ffn_pruning_ratio", "resolution@fake_vit")


def make(folder: Path, trials: int) -> None:
    """A study with this number of trials in `folder`."""
    vitsearch(folder, SEED_TRIALS, "random")
    space, draw = space_for(folder, SEED_TRIALS, "random"), random.Random(0)
    ledger, study = Ledger.open(space.storage), Study.open(space)
    records = study.records()
    model = next(record for record in records.values() if record.is_confirmed and record.keys)
    for number in range(len(records), trials):
        record = _other(model, number, draw)
        _add(study, record, draw)
        _measure(ledger, model, record)
    study.close()
    ledger.close()


def _other(model: Record, number: int, draw: random.Random) -> Record:
    assert model.keys is not None
    values = {"accuracy": draw.uniform(0.5, 0.9), "cpu_ms_p50": draw.uniform(0.5, 3.0)}
    figures = dict(model.metrics.figures) | {name: Figure(value) for name, value in values.items()}
    names = {name: f"{name}-{number}" for name in ("weights_key", "graph_key", "artifact_key")}
    similar = replace(model, metrics=Metrics(figures), keys=replace(model.keys, **names))
    if draw.random() < CONFIRMED:
        return similar
    return replace(similar, outcome="dominated", reason="dominated by trial 1")


def _add(study: Study, record: Record, draw: random.Random) -> None:
    state = TrialState.COMPLETE if record.is_confirmed else TrialState.PRUNED
    study._view.add(state, {name: [draw.random(), 0.0, 1.0] for name in KNOBS}, json.dumps(record.to_json()))


def _measure(ledger: Ledger, model: Record, record: Record) -> None:
    assert model.keys is not None
    assert record.keys is not None
    for row in ledger.measurements(model.keys.graph_key, model.keys.device_id):
        ledger.add(replace(row, graph_key=record.keys.graph_key, structure=None), StageCost(0.0))
    if record.is_confirmed:
        ledger.add(ArtifactRow(record.keys.artifact_key or "", "model", "0" * 64, 1, "here", {}), StageCost(0.0))


def read(storage: str, space: SearchSpace) -> None:
    """Print the CPU-seconds of each step of reading the study."""
    steps: list[tuple[str, Callable[[], object]]] = []
    print(f"{'start of the process, imports':<40}{time.process_time():6.2f}")
    started = time.process_time()
    ledger, study = Ledger.open(storage), Study.change_existing(storage, space.study)
    print(f"{'the database':<40}{time.process_time() - started:6.2f}")
    steps.append(("all records", study.records))
    steps.append(("the front", lambda: read_front(study, ledger)))
    steps.append(("open trials of dead drivers", study.recover))
    steps.append(("the time that is left", lambda: Remaining(study, ledger, space, 1, CurrentFigures(ledger))))
    steps.append(("an enqueued plan", lambda: study.enqueue({"head_pruning_ratio": 0.5}, "again")))
    for name, step in steps:
        started = time.process_time()
        step()
        print(f"{name:<40}{time.process_time() - started:6.2f}")
    print(f"{'all':<40}{time.process_time():6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="read the study that an earlier call has made there")
    options = parser.parse_args()
    if options.folder is not None and (options.folder / "bench.db").exists():
        space = space_for(options.folder, SEED_TRIALS, "random")
        read(space.storage, space)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        make(folder, options.trials)
        subprocess.run([sys.executable, __file__, "--folder", str(folder)], check=True)


if __name__ == "__main__":
    main()
