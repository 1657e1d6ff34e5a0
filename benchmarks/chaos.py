"""Kill anything in a study that two drivers share, and compare it with the same study without faults.

    python benchmarks/chaos.py --plans 100 --kills 200 --restarts 5

Two `vitsearch run` work on one list of plans: a Ray cluster of a head and three nodes, four agents, a PostgreSQL server
and an S3 store, all on this machine (`chaos_study.py`). At random moments a process gets SIGKILL: a driver or an
agent, which is started again, a worker, a measuring child, or the raylet of a node, which another one replaces; now and
then the database server restarts. Stages are short; CHAOS_STAGES=real takes the real ones. Each plan is trained once
and exported in two precisions, so there are about twice as many trials as plans.

When the study has ended, nothing may be lost (every row that the ledger held at a kill is still there, unchanged),
nothing made twice (each result has one finished stage), no trial may be open, and each plan of the list must have the
result that it has in a study without faults. Needs the development dependencies (`pip install --group dev`). The exit
code is the number of kinds of damage.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_study import DRIVERS, Services, SharedStudy, processes, services

KINDS = {"driver": 4, "worker": 3, "agent": 2, "node": 1, "child": 1}
"""How often each kind is killed, relative to the others."""
TITLES = {"worker": "ray::_run_task_on", "child": "vitsearch_agent.measure.child.main"}
WAIT_FOR_VICTIM_S = 20.0
REFUSED = "cannot be opened: "
"""What a driver says, and ends, that finds no database at its start. One that has it open waits."""
END_S = 900.0
TABLES = {
    "vs_training": ("weights_key || ':' || rung", "rung > 0", "train"),
    "vs_artifact": ("artifact_key", "kind = 'model'", "export"),
}
"""Of each kind of result: its key, which rows count, and the stage that makes it."""
MEASURED = "vs_measurement"
RESULTS = {
    "trained": (
        "SELECT rung, qualities, divergence, checkpoint_sha256 FROM vs_training WHERE weights_key = '{weights_key}'"
    ),
    "exported": "SELECT kind, sha256 FROM vs_artifact WHERE artifact_key = '{artifact_key}'",
    "evaluated": "SELECT split, n, figures, tally FROM vs_evaluation WHERE artifact_key = '{artifact_key}'",
}
"""What the ledger has of a plan that does not depend on when and where it was made."""
OF_THE_LIST = """
SELECT number, state, record FROM vs_trial WHERE record IS NOT NULL AND number < {plans}
"""


@dataclass
class Faults:
    """What is done to a study, and what was found meanwhile."""

    services: Services
    study: SharedStudy
    done: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    _kept: dict[str, float] = field(default_factory=dict)

    def inflict(self, kills: int, restarts: int, pause_s: float) -> None:
        """All of them, in random order, until the study ends."""
        todo = ["kill"] * kills + ["restart"] * restarts
        random.shuffle(todo)
        for what in todo:
            time.sleep(random.uniform(0.0, pause_s))
            if self.study.has_ended():
                return
            self.look()
            if what == "kill":
                self._kill_one()
            else:
                self.services.restart_server()
                self.done["server"] += 1

    def _kill_one(self) -> None:
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "driver":
            self.study.restart_driver(random.randrange(DRIVERS))
        elif kind == "agent":
            agent = random.choice(self.study.agents)
            agent.kill()
            agent.start(self.study.environment)
        elif kind == "node":
            self.services.lose_node()
        elif not self._kill_process(TITLES[kind]):
            return
        self.done[kind] += 1

    def _kill_process(self, title: str) -> bool:
        """Kill one with this in its command line, as soon as there is one."""
        deadline = time.monotonic() + WAIT_FOR_VICTIM_S
        while time.monotonic() < deadline:
            victims = [pid for pid, command in processes(self.services.folder).items() if title in command]
            if victims:
                os.kill(random.choice(victims), signal.SIGKILL)
                return True
            time.sleep(0.05)
        return False

    def look(self) -> None:
        """Compare what is there with what was there before."""
        now = rows(self.study)
        self.lost += [name for name, written in self._kept.items() if now.get(name) != written]
        self._kept = now


def rows(study: SharedStudy) -> dict[str, float]:
    """When each finished training, export and measurement was written."""
    times: dict[str, float] = {}
    for table, (key, where, _) in TABLES.items():
        for name, written in study.query(f"SELECT {key}, created_at FROM {table} WHERE {where}"):
            times[f"{table} {name}"] = written
    key = "graph_key || ':' || device_id || ':' || protocol || ':' || repeat"
    for name, written in study.query(f"SELECT {key}, created_at FROM {MEASURED}"):
        times[f"{MEASURED} {name}"] = written
    return times


def results(study: SharedStudy, plans: int) -> dict[str, Any]:
    """How each plan of the list ended, and what the ledger has of it."""
    contents: dict[str, Any] = {}
    for number, state, words in study.query(OF_THE_LIST.format(plans=plans)):
        record = json.loads(words)
        keys = record["keys"] or {"weights_key": None, "artifact_key": None}
        rows = {name: [tuple(row) for row in study.query(query.format(**keys))] for name, query in RESULTS.items()}
        contents[f"plan {number}"] = {"state": state, "outcome": record["outcome"], "plan": record["plan"]} | rows
    return contents


def damage(faults: Faults, plans: int, calm: dict[str, Any]) -> list[str]:
    study = faults.study
    faults_seen = [f"lost or made again: {name}" for name in faults.lost]
    refused = (study.folder / "run.log").read_text().count(REFUSED)
    faults.done["refused start"] += refused
    faults_seen += [f"a driver ended by itself with {code}" for code in study.ended_by_themselves[refused:]]
    faults_seen += [f"a driver has not ended: {driver.poll()}" for driver in study.drivers if driver.poll() != 0]
    states = Counter(state for (state,) in study.query("SELECT state FROM vs_trial"))
    faults_seen += [f"{count} trials are {state}" for state, count in states.items() if state in ("RUNNING", "WAITING")]
    trained = study.query(f"SELECT count(DISTINCT weights_key) FROM vs_training WHERE {made_by('train')}")[0][0]
    if trained != plans:
        faults_seen.append(f"{trained} weights are trained, {plans} were asked for")
    for table, (_, _, stage) in TABLES.items():
        stage_runs = study.query(f"SELECT count(*) FROM vs_stage_cost WHERE stage = '{stage}'")[0][0]
        results_kept = study.query(f"SELECT count(DISTINCT made_by) FROM {table} WHERE {made_by(stage)}")[0][0]
        if stage_runs > results_kept:
            faults_seen.append(f"{stage_runs} finished runs of {stage} for {results_kept} results")
    return faults_seen + differing(calm, results(study, plans))


def made_by(stage: str) -> str:
    """A condition: rows that this stage has made. The bases are trained by another."""
    return f"made_by IN (SELECT run_id FROM vs_stage_cost WHERE stage = '{stage}')"


def differing(calm: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Plans of the list with other results than in the study without faults."""
    names = sorted(calm.keys() | now.keys())
    return [
        f"{name}: {now.get(name)}, without faults {calm.get(name)}" for name in names if now.get(name) != calm.get(name)
    ]


def run(folder: Path, plans: int, kills: int, restarts: int, pause_s: float) -> list[str]:
    """The damage that the faults have done. Prints what was done."""
    with services(folder) as shared:
        began = time.monotonic()
        study = SharedStudy.make(shared, "calm", plans)
        study.start()
        study.await_end(END_S)
        calm = results(study, plans)
        study.close()
        ended = Counter(trial["outcome"] for trial in calm.values())
        print(f"without faults: {time.monotonic() - began:.0f} s, plans of the list: {dict(ended)}", flush=True)
        began = time.monotonic()
        faults = Faults(shared, SharedStudy.make(shared, "stormy", plans))
        faults.study.start()
        faults.study.await_first_result()
        faults.inflict(kills, restarts, pause_s)
        faults.study.await_end(END_S)
        faults.look()
        trials = faults.study.query("SELECT count(*) FROM vs_trial")[0][0]
        took_s = time.monotonic() - began
        problems = damage(faults, plans, calm)
        print(f"with faults: {took_s:.0f} s, {trials} trials, {dict(faults.done)}", flush=True)
        if problems:
            print(faults.study.log())
        faults.study.close()
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, default=20, help="that are trained")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--pause", type=float, default=6.0, help="most seconds between two faults")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        outcome = run(Path(folder), options.plans, options.kills, options.restarts, options.pause)
    print("\n".join(outcome) or "nothing is lost, made twice or left open, and all results are those without faults")
    return min(len(outcome), 100)


if __name__ == "__main__":
    sys.exit(main())
