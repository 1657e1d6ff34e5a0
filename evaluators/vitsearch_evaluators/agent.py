"""The agent as a whole: its state folder, its parts, and how it starts and ends."""

import fcntl
import ipaddress
import json
import os
import select
import signal
import sys
import threading
from typing import IO, Any, NamedTuple, Optional

from vitsearch_evaluators.api import Api
from vitsearch_evaluators.child import StopSignal
from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.fingerprint import device_identity
from vitsearch_evaluators.jobs import JobQueue
from vitsearch_evaluators.server import AgentServer
from vitsearch_evaluators.store import BlobStore
from vitsearch_evaluators.worker import Worker

# `serve_forever` looks at its own flag that often; each look disturbs what is measured.
_ACCEPT_POLL_S = 60.0


class AgentSettings(NamedTuple):
    """`port` 0 takes a free one; `port_file` then says which, as JSON {"port", "pid", ...}."""

    state: str
    host: str = "127.0.0.1"
    port: int = 0
    token: Optional[str] = None
    port_file: Optional[str] = None
    exit_with_stdin: bool = False


def serve(settings: AgentSettings, version: str) -> None:
    """Run an agent until SIGTERM, SIGINT or (if asked) the end of stdin. Main thread only."""
    refuse_open_door(settings.host, settings.token)
    os.makedirs(settings.state, mode=0o700, exist_ok=True)
    lock = _lock(settings.state)
    identity = device_identity(settings.state)
    queue = JobQueue(os.path.join(settings.state, "jobs.sqlite"))
    queue.recover()
    store = BlobStore(settings.state, referenced=queue.referenced)
    work = os.path.join(settings.state, "work")
    worker = Worker(queue, store, identity, work, version)
    api = Api(version, identity, store, queue, worker)
    try:
        server = AgentServer((settings.host, settings.port), api, settings.token)
    except OSError as error:
        raise EvaluatorError("cannot_listen", f"cannot listen on {settings.host}:{settings.port}: {error}") from error
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    # The kernel may hand a signal to another thread; Python then runs the handler only when this one
    # wakes up, which it would not do by itself.
    signal.set_wakeup_fd(stop.wakeup_fileno())
    worker.start()
    acceptor = threading.Thread(target=server.serve_forever, args=(_ACCEPT_POLL_S,), daemon=True)
    acceptor.start()
    if settings.port_file is not None:
        _write_port_file(settings.port_file, server.server_port, identity.device_id)
    try:
        _wait(stop, settings.exit_with_stdin)
    finally:
        # Requests are answered until the process ends: closing things under them would turn a
        # planned stop into errors at the clients. All state is on the disk already.
        worker.stop()
        lock.close()


def refuse_open_door(host: str, token: Optional[str]) -> None:
    """Refuse to let a whole network submit jobs: whoever may submit can run code as this user."""
    if token is None and not is_loopback(host):
        raise EvaluatorError(
            "open_door",
            f"--host {host} can be reached from the network: give a --token-file, or listen on "
            "127.0.0.1 and use an ssh tunnel",
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _lock(state: str) -> IO[Any]:
    lock = open(os.path.join(state, "lock"), "w")  # noqa: SIM115 - held as long as the agent lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise EvaluatorError("state_in_use", f"another agent uses {state}: stop it or give another --state") from error
    return lock


def _write_port_file(path: str, port: int, device_id: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as stream:
        json.dump({"port": port, "pid": os.getpid(), "device_id": device_id}, stream)
    os.rename(temporary, path)


def _wait(stop: StopSignal, exit_with_stdin: bool) -> None:
    watched = [stop.fileno()]
    if exit_with_stdin:
        watched.append(sys.stdin.fileno())
    while True:
        ready = select.select(watched, [], [])[0]
        if stop.fileno() in ready or not os.read(sys.stdin.fileno(), 4096):
            return
